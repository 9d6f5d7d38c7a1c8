# https://github.com/hashicorp/integration-template#metadata-configuration
integration {
  name        = "Immutable"
  description = "Immutable servers on AWS: an RPM becomes an AMI without an instance, and the AMI is rolled over Auto Scaling groups."
  identifier  = "packer/immutable-server/immutable"
  component {
    type = "builder"
    name = "Immutable direct"
    slug = "direct"
  }
  component {
    type = "builder"
    name = "Immutable disk"
    slug = "disk"
  }
  component {
    type = "provisioner"
    name = "Immutable RPM"
    slug = "rpm"
  }
  component {
    type = "provisioner"
    name = "Immutable seal"
    slug = "seal"
  }
  component {
    type = "post-processor"
    name = "Immutable tag"
    slug = "tag"
  }
  component {
    type = "post-processor"
    name = "Immutable rollout"
    slug = "rollout"
  }
  component {
    type = "data-source"
    name = "Immutable commit"
    slug = "commit"
  }
}
