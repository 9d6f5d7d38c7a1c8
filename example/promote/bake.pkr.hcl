# Bakes the AMI, once, and rolls it out to dev.
packer {
  required_plugins {
    immutable = {
      source  = "github.com/immutable-server/immutable"
      version = ">= 0.1.0"
    }
  }
}

variable "version" { type = string }

source "immutable-direct" "hello" {
  ami_name = "hello-${var.version}"
}

build {
  sources = ["source.immutable-direct.hello"]

  provisioner "immutable-rpm" {
    packages = ["${path.root}/../hello/dist/hello-${var.version}.*.rpm"]
    services = ["hello.service"]
  }
  provisioner "immutable-seal" {}

  post-processors {
    post-processor "immutable-tag" {}
    post-processor "immutable-rollout" {
      auto_scaling_group = "hello-dev"
    }
  }
}
