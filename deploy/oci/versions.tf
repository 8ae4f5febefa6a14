terraform {
  required_version = ">= 1.5"
  required_providers {
    oci = {
      source  = "oracle/oci"
      version = ">= 6.0, < 9.0"
    }
  }
}

provider "oci" {
  region = var.region
}

# Users, groups and policies are written in a tenancy's home region only.
provider "oci" {
  alias  = "home"
  region = var.home_region
}
