job "shop" {
  datacenters = ["dc1"]

  group "shop" {
    network {
      # A port of the host; Nomad publishes it both as TCP and as UDP.
      port "http" {
        static = 21080
        to     = 80
      }
    }

    task "web" {
      driver = "docker"

      config {
        image        = "busybox"
        command      = "sh"
        args         = ["-c", "mkdir -p /www && echo shop >/www/index.html && exec httpd -f -p 80 -h /www"]
        network_mode = "my_net"
        ipv4_address = "192.0.2.60"
        ports        = ["http"]

        labels {
          "org.projectcalico.label.role" = "web"
        }
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
