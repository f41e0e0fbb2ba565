# What the pipeline adds to the images of docker-compose.yml. `docker buildx bake` reads both files.
# There is no cache of a registry: who can write the package could put a layer of his own into the next image.
variable "CANDIDATES" { default = "candidate" }
variable "COMMIT" { default = "none" }
variable "ARCH" { default = "none" }
variable "SOURCE" { default = "" }

target "image" {
  name   = image
  matrix = { image = ["app", "nginx", "redis"] }
  tags   = ["${CANDIDATES}:${image}-${COMMIT}-${ARCH}"] # a push needs a tag; nothing reads it
  labels = {
    "org.opencontainers.image.revision" = COMMIT
    "org.opencontainers.image.source"   = SOURCE
  }
}
