# Rolls out in an environment the AMI that it ran before.
packer {
  required_plugins {
    immutable = {
      source  = "github.com/immutable-server/immutable"
      version = ">= 0.1.0"
    }
  }
}

variable "in" {
  type        = string
  description = "The environment to roll back."
}

source "immutable-existing" "before" {
  previous_of = "hello-${var.in}"
}

build {
  sources = ["source.immutable-existing.before"]

  post-processor "immutable-rollout" {
    auto_scaling_group = "hello-${var.in}"
  }
}
