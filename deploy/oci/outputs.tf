output "invoke_endpoints" {
  description = "Each function's endpoint; calls must be signed, as `oci fn function invoke` and the fn CLI do."
  value       = { for name, function in oci_functions_function.classy : name => "${function.invoke_endpoint}/20181201/functions/${function.id}/actions/invoke" }
}

output "buckets" {
  description = "Where models are published, pictures uploaded and results written."
  value       = local.buckets
}

output "s3_endpoint" {
  description = "For CLASSY_MODEL_STORE and the AWS tools."
  value       = local.shared.AWS_ENDPOINT_URL
}
