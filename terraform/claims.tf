# The bucket for message bodies over the broker's limit. Workers remove an object when its message is
# settled for good; what is left over (a crash between the two, a purged dead-letter queue) goes by the
# lifecycle rule, later than the longest redelivery of the catalogue: retention twice, dead-letter
# retention, and a week.

variable "claim_bucket" {
  description = "Name of the bucket, CLAIM_BUCKET of every service; names are global"
  type        = string
}

variable "claim_days" {
  description = "Days after which an object that nobody removed goes"
  type        = number
  default     = 35

  validation {
    condition     = var.claim_days >= 35
    error_message = "A message can be redelivered for 28 days; a body that goes before 35 may still be asked for."
  }
}

resource "aws_s3_bucket" "claims" {
  bucket = var.claim_bucket
}

resource "aws_s3_bucket_public_access_block" "claims" {
  bucket                  = aws_s3_bucket.claims.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "claims" {
  bucket = aws_s3_bucket.claims.id

  rule {
    id     = "bodies-that-nobody-removed"
    status = "Enabled"

    filter {
      prefix = "claims/"
    }

    expiration {
      days = var.claim_days
    }
  }
}
