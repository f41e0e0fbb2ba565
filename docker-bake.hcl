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

# The list of everything in one image, as a file in the folder sbom.
variable "IMAGE" { default = "" } # by digest
target "sbom" {
  context  = ".github/sbom"
  contexts = { image = "docker-image://${IMAGE}" }
  args     = { NAME = split("@", IMAGE)[0], DIGEST = split("@", "${IMAGE}@")[1] }
  output   = ["type=local,dest=sbom"]
}
