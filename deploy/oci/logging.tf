resource "oci_logging_log_group" "classy" {
  compartment_id = var.compartment_id
  display_name   = var.name
  description    = "What Classy's functions write; every line of a call names it"
}

resource "oci_logging_log" "invoke" {
  log_group_id       = oci_logging_log_group.classy.id
  display_name       = "${var.name}-invoke"
  log_type           = "SERVICE"
  is_enabled         = true
  retention_duration = var.log_days

  configuration {
    compartment_id = var.compartment_id

    source {
      category    = "invoke"
      resource    = oci_functions_application.classy.id
      service     = "functions"
      source_type = "OCISERVICE"
    }
  }
}
