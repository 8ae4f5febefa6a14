data "oci_objectstorage_namespace" "tenancy" {
  compartment_id = var.tenancy_id
}

locals {
  buckets = {
    models  = "${var.name}-models"
    inbox   = "${var.name}-inbox"
    results = "${var.name}-results"
  }
}

resource "oci_objectstorage_bucket" "classy" {
  for_each              = local.buckets
  compartment_id        = var.compartment_id
  namespace             = data.oci_objectstorage_namespace.tenancy.namespace
  name                  = each.value
  access_type           = "NoPublicAccess"
  object_events_enabled = each.key == "inbox" # off unless asked for, and without it no rule ever fires
}

# The S3 compatibility endpoint takes a user's customer secret key, not a function's own identity: so a user who can
# do nothing else. The key is in Terraform's state: keep that where only operators read.
resource "oci_identity_user" "storage" {
  provider       = oci.home
  compartment_id = var.tenancy_id
  name           = "${var.name}-storage"
  description    = "Classy's functions at the object storage; no console, no API keys"
}

resource "oci_identity_user_capabilities_management" "storage" {
  provider                     = oci.home
  user_id                      = oci_identity_user.storage.id
  can_use_api_keys             = false
  can_use_auth_tokens          = false
  can_use_console_password     = false
  can_use_customer_secret_keys = true
  can_use_smtp_credentials     = false
}

resource "oci_identity_group" "storage" {
  provider       = oci.home
  compartment_id = var.tenancy_id
  name           = "${var.name}-storage"
  description    = "Who may read Classy's models and uploads, and write its results"
}

resource "oci_identity_user_group_membership" "storage" {
  provider = oci.home
  user_id  = oci_identity_user.storage.id
  group_id = oci_identity_group.storage.id
}

resource "oci_identity_customer_secret_key" "storage" {
  provider     = oci.home
  user_id      = oci_identity_user.storage.id
  display_name = var.name
}
