# Calling a function of Oracle's takes a signed request. The stages' gateway signs: it is reached from the functions'
# own network only, by plain HTTPS, which is what GraphPipe speaks.

locals {
  gateways = var.topology == "four" ? 1 : 0
}

resource "oci_apigateway_gateway" "stages" {
  count          = local.gateways
  compartment_id = var.compartment_id
  display_name   = "${var.name}-stages"
  endpoint_type  = "PRIVATE"
  subnet_id      = oci_core_subnet.functions.id
}

resource "oci_apigateway_deployment" "stages" {
  count          = local.gateways
  compartment_id = var.compartment_id
  display_name   = "${var.name}-stages"
  gateway_id     = oci_apigateway_gateway.stages[0].id
  path_prefix    = "/stages"

  specification {
    dynamic "routes" {
      for_each = local.stages

      content {
        path    = "/${routes.value}"
        methods = ["POST"]

        backend {
          type        = "ORACLE_FUNCTIONS_BACKEND"
          function_id = oci_functions_function.classy[routes.value].id
        }
      }
    }
  }
}
