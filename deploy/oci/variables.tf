variable "tenancy_id" {
  description = "OCID of the tenancy; groups, users and their policies live there."
  type        = string
}

variable "compartment_id" {
  description = "OCID of the compartment for everything else; best one of its own."
  type        = string
}

variable "region" {
  description = "Where the functions and buckets are, as eu-frankfurt-1."
  type        = string
}

variable "home_region" {
  description = "The tenancy's home region; the same as region for many."
  type        = string
}

variable "image_prefix" {
  description = "Where the images were pushed, without the function's name: fra.ocir.io/NAMESPACE/classy."
  type        = string
}

variable "image_tag" {
  description = "The images' tag: version in func.yaml."
  type        = string
  default     = "0.1.0"
}

variable "topology" {
  description = "fused: all of Classy in one function. four: a function per stage, behind a private API gateway."
  type        = string

  validation {
    condition     = contains(["fused", "four"], var.topology)
    error_message = "topology is fused or four; docs/deploy-fn.md says which when."
  }
}

variable "name" {
  description = "Begins the name of everything that is made; the application's name too."
  type        = string
  default     = "classy-fn"
}

variable "model" {
  description = "NAME or NAME@VERSION of the published model."
  type        = string
  default     = "efficientnet-lite0"
}

variable "language" {
  description = "Language of an answer's Message: ja or en."
  type        = string
  default     = "ja"
}

variable "provisioned" {
  description = "Provisioned concurrency units by function; steps of 20 at 256 MB, of 10 from 512 MB on. Costs while idle."
  type        = map(number)
  default     = {}
}

variable "log_days" {
  description = "How long the functions' log is kept: 30, 60, 90, 120, 150 or 180 days."
  type        = number
  default     = 30
}
