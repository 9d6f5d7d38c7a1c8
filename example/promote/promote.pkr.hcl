# Rolls out in one environment the AMI that another one runs.
packer {
  required_plugins {
    immutable = {
      source  = "github.com/immutable-server/immutable"
      version = ">= 0.1.0"
    }
  }
}

variable "from" {
  type        = string
  description = "The environment whose AMI is promoted."
}

variable "to" {
  type        = string
  description = "The environment that it is rolled out in."
}

source "immutable-existing" "tested" {
  current_of = "hello-${var.from}"
}

build {
  sources = ["source.immutable-existing.tested"]

  post-processor "immutable-rollout" {
    auto_scaling_group = "hello-${var.to}"
  }
}
