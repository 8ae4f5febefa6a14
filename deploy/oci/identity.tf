# What may do what, and nothing more. The functions themselves call no Oracle API, so they are in no dynamic group.

resource "oci_identity_policy" "storage" {
  provider       = oci.home
  compartment_id = var.compartment_id
  name           = "${var.name}-storage"
  description    = "Classy reads models and uploads and writes results, and deletes nothing"

  statements = [
    "Allow group ${oci_identity_group.storage.name} to read buckets in compartment id ${var.compartment_id} where any {${local.any_bucket}}",
    "Allow group ${oci_identity_group.storage.name} to read objects in compartment id ${var.compartment_id} where any {${local.any_bucket}}",
    "Allow group ${oci_identity_group.storage.name} to manage objects in compartment id ${var.compartment_id} where all {target.bucket.name = '${local.buckets.results}', any {request.permission = 'OBJECT_CREATE', request.permission = 'OBJECT_OVERWRITE'}}",
  ]
}

locals {
  any_bucket = join(", ", [for bucket in values(local.buckets) : "target.bucket.name = '${bucket}'"])
}

resource "oci_identity_dynamic_group" "gateway" {
  count          = local.gateways
  provider       = oci.home
  compartment_id = var.tenancy_id
  name           = "${var.name}-gateway"
  description    = "The gateway in front of Classy's stages"
  matching_rule  = "ALL {resource.type = 'ApiGateway', resource.id = '${oci_apigateway_gateway.stages[0].id}'}"
}

resource "oci_identity_policy" "gateway" {
  count          = local.gateways
  provider       = oci.home
  compartment_id = var.compartment_id
  name           = "${var.name}-gateway"
  description    = "The gateway calls Classy's stages; use lets it list and invoke, and change nothing"

  statements = [
    "Allow dynamic-group ${oci_identity_dynamic_group.gateway[0].name} to use functions-family in compartment id ${var.compartment_id}",
  ]
}
