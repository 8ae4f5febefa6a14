# An upload to the inbox classifies itself.
resource "oci_events_rule" "uploads" {
  compartment_id = var.compartment_id
  display_name   = "${var.name}-uploads"
  description    = "New objects of the inbox go to classy-func"
  is_enabled     = true

  condition = jsonencode({
    eventType = ["com.oraclecloud.objectstorage.createobject"]
    data      = { additionalDetails = { bucketName = [local.buckets.inbox] } }
  })

  actions {
    actions {
      action_type = "FAAS"
      description = "classify and record"
      function_id = oci_functions_function.classy["classy-func"].id
      is_enabled  = true
    }
  }

  depends_on = [oci_objectstorage_bucket.classy]
}
