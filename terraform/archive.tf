# The bucket of the audit archive. Its objects are never rewritten; they go by `CLEANUP_EXPIRED`, with a
# receipt, so no lifecycle rule deletes a current one. Versions are on, so that an overwrite or a delete
# by somebody else is no loss; our own deletions remove every version.

variable "archive_bucket" {
  description = "Name of the bucket, ARCHIVE_BUCKET of every service; names are global"
  type        = string
}

variable "archive_object_lock" {
  description = "Whether objects may be locked (ARCHIVE_LOCK_MODE); decided when the bucket is made, for good"
  type        = bool
  default     = false
}

variable "archive_kms_key_arn" {
  description = "KMS key for objects written without one of their own; null for keys of S3's own"
  type        = string
  default     = null
}

variable "archive_upload_days" {
  description = "Days after which an upload that nobody completed goes"
  type        = number
  default     = 7

  validation {
    condition     = var.archive_upload_days >= 1
    error_message = "A run that is resumed needs its parts for a day at least."
  }
}

variable "archive_old_version_days" {
  description = "Days that a version stays which was overwritten, or deleted by others than us"
  type        = number
  default     = 90

  validation {
    condition     = var.archive_old_version_days >= 1
    error_message = "S3 counts whole days, from 1."
  }
}

resource "aws_s3_bucket" "archive" {
  bucket              = var.archive_bucket
  object_lock_enabled = var.archive_object_lock
}

resource "aws_s3_bucket_public_access_block" "archive" {
  bucket                  = aws_s3_bucket.archive.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# Nobody speaks to it in the clear, whatever else allows it.
data "aws_iam_policy_document" "archive_bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.archive.arn, "${aws_s3_bucket.archive.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "archive" {
  # S3 changes one of the two at a time.
  depends_on = [aws_s3_bucket_public_access_block.archive]

  bucket = aws_s3_bucket.archive.id
  policy = data.aws_iam_policy_document.archive_bucket.json
}

resource "aws_s3_bucket_versioning" "archive" {
  bucket = aws_s3_bucket.archive.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "archive" {
  bucket = aws_s3_bucket.archive.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.archive_kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.archive_kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "archive" {
  # Rules about old versions need versions.
  depends_on = [aws_s3_bucket_versioning.archive]

  bucket = aws_s3_bucket.archive.id

  rule {
    id     = "uploads-that-nobody-completed"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = var.archive_upload_days
    }
  }

  rule {
    id     = "versions-of-others-making"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.archive_old_version_days
    }

    expiration {
      expired_object_delete_marker = true
    }
  }
}
