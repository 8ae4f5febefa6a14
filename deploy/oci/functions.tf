# Memory and timeouts are func.yaml's; a test holds them together.
locals {
  fused = tomap({
    classy-func = { image = "classy-fused", memory_mb = 1024, timeout_s = 60 }
  })
  four = tomap({
    classy-func  = { image = "classy-func", memory_mb = 256, timeout_s = 60 }
    downloader   = { image = "downloader", memory_mb = 256, timeout_s = 30 }
    preprocessor = { image = "preprocessor", memory_mb = 512, timeout_s = 30 }
    vgg          = { image = "vgg", memory_mb = 1024, timeout_s = 60 }
  })
  functions = var.topology == "four" ? local.four : local.fused
  stages    = [for name in keys(local.functions) : name if name != "classy-func"]
  address   = one(oci_apigateway_gateway.stages[*].hostname)

  shared = {
    AWS_ENDPOINT_URL      = "https://${data.oci_objectstorage_namespace.tenancy.namespace}.compat.objectstorage.${var.region}.oraclecloud.com"
    AWS_REGION            = var.region
    AWS_ACCESS_KEY_ID     = oci_identity_customer_secret_key.storage.id
    AWS_SECRET_ACCESS_KEY = oci_identity_customer_secret_key.storage.key
    CLASSY_MODEL_STORE    = "s3://${local.buckets.models}"
    CLASSY_MODEL          = var.model
    CLASSY_BUCKETS        = local.buckets.inbox
  }
  # What only stages apart need. Between functions 6 MB are what fits: 9 pictures of 224 × 224 as float32, and files
  # of this size together.
  apart = {
    CLASSY_LIMIT_ROWS          = "9"
    CLASSY_LIMIT_BYTES         = "5500000"
    CLASSY_LIMIT_REQUEST_BYTES = "5500000"
  }
  front = merge(
    { CLASSY_RESULTS = "s3://${local.buckets.results}", CLASSY_LANGUAGE = var.language },
    { CLASSY_TOPOLOGY = var.topology == "four" ? "caller-led" : "in-process" },
    { for stage in local.stages : "CLASSY_${upper(stage)}" => "https://${local.address}/stages/${stage}" },
  )
}

resource "oci_functions_application" "classy" {
  compartment_id = var.compartment_id
  display_name   = var.name
  subnet_ids     = [oci_core_subnet.functions.id]
  shape          = "GENERIC_X86"
  config         = merge(local.shared, { for key, value in local.apart : key => value if var.topology == "four" })
}

resource "oci_functions_function" "classy" {
  for_each           = local.functions
  application_id     = oci_functions_application.classy.id
  display_name       = each.key
  image              = "${var.image_prefix}/${each.value.image}:${var.image_tag}"
  memory_in_mbs      = each.value.memory_mb
  timeout_in_seconds = each.value.timeout_s
  config             = { for key, value in local.front : key => value if each.key == "classy-func" }

  dynamic "provisioned_concurrency_config" {
    for_each = lookup(var.provisioned, each.key, 0) > 0 ? [var.provisioned[each.key]] : []

    content {
      strategy = "CONSTANT"
      count    = provisioned_concurrency_config.value
    }
  }
}
