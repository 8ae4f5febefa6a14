# A private network: functions go out (pictures by URL, the object storage), and nothing comes in but from each other.

data "oci_core_services" "all" {
  filter {
    name   = "name"
    values = ["All .* Services In Oracle Services Network"]
    regex  = true
  }
}

resource "oci_core_vcn" "classy" {
  compartment_id = var.compartment_id
  display_name   = var.name
  cidr_blocks    = ["10.77.0.0/24"]
  dns_label      = "classy"
}

resource "oci_core_nat_gateway" "out" {
  compartment_id = var.compartment_id
  display_name   = var.name
  vcn_id         = oci_core_vcn.classy.id
}

resource "oci_core_service_gateway" "oracle" {
  compartment_id = var.compartment_id
  display_name   = var.name
  vcn_id         = oci_core_vcn.classy.id

  services {
    service_id = data.oci_core_services.all.services[0].id
  }
}

resource "oci_core_route_table" "out" {
  compartment_id = var.compartment_id
  display_name   = var.name
  vcn_id         = oci_core_vcn.classy.id

  route_rules {
    destination       = "0.0.0.0/0"
    destination_type  = "CIDR_BLOCK"
    network_entity_id = oci_core_nat_gateway.out.id
  }

  route_rules {
    destination       = data.oci_core_services.all.services[0].cidr_block
    destination_type  = "SERVICE_CIDR_BLOCK"
    network_entity_id = oci_core_service_gateway.oracle.id
  }
}

resource "oci_core_security_list" "functions" {
  compartment_id = var.compartment_id
  display_name   = var.name
  vcn_id         = oci_core_vcn.classy.id

  egress_security_rules {
    destination = "0.0.0.0/0"
    protocol    = "6" # TCP
  }

  egress_security_rules {
    destination = "0.0.0.0/0"
    protocol    = "17" # UDP, for names
  }

  # To the stages' gateway.
  ingress_security_rules {
    source   = oci_core_vcn.classy.cidr_blocks[0]
    protocol = "6"

    tcp_options {
      min = 443
      max = 443
    }
  }
}

resource "oci_core_subnet" "functions" {
  compartment_id             = var.compartment_id
  display_name               = var.name
  vcn_id                     = oci_core_vcn.classy.id
  cidr_block                 = oci_core_vcn.classy.cidr_blocks[0]
  dns_label                  = "functions"
  prohibit_public_ip_on_vnic = true
  route_table_id             = oci_core_route_table.out.id
  security_list_ids          = [oci_core_security_list.functions.id]
}
