# What each process may do with the archive: what its code asks S3 and KMS for, and no more. Attach each
# policy to the role of that process. None of them changes or bypasses a lock or rewrites tags;
# `retention-worker` and `index-worker` ask the archive for nothing and get nothing.

variable "archive_object_kms_key_arns" {
  description = "Keys that objects are written with besides archive_kms_key_arn: ARCHIVE_SSE_KMS_KEY_ID"
  type        = list(string)
  default     = []
}

variable "archive_signing_key_arns" {
  description = "KMS keys that sign, during a rotation the new and the old one; empty for keys in files"
  type        = list(string)
  default     = []
}

variable "heads_bucket_arn" {
  description = "Bucket that signed heads are copied to, HEADS_BUCKET; its own policy must allow it, too"
  type        = string
  default     = null
}

locals {
  archive_objects  = "${aws_s3_bucket.archive.arn}/archive/*"
  archive_proofs   = "${aws_s3_bucket.archive.arn}/proof/*"
  archive_kms_keys = compact(concat([var.archive_kms_key_arn], var.archive_object_kms_key_arns))

  archive_rights = {
    "archive-worker" = data.aws_iam_policy_document.archive_worker.json
    "cleanup-worker" = data.aws_iam_policy_document.cleanup_worker.json
    "ingest-api"     = data.aws_iam_policy_document.ingest_api.json
    "scheduler"      = data.aws_iam_policy_document.scheduler.json
    "archive-reader" = data.aws_iam_policy_document.archive_reader.json
  }
}

# Writes objects, reads them back, removes what a unit does without; and seals.
data "aws_iam_policy_document" "archive_worker" {
  statement {
    sid = "Names"
    actions = [
      "s3:ListBucket",
      "s3:ListBucketMultipartUploads",
      "s3:ListBucketVersions",
    ]
    resources = [aws_s3_bucket.archive.arn]
  }

  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:DeleteObjectVersion",
      "s3:GetObject",
      "s3:GetObjectVersion",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
      "s3:PutObjectTagging",
    ]
    resources = [local.archive_objects]
  }

  # Locked or not is looked for before anything is removed.
  dynamic "statement" {
    for_each = var.archive_object_lock ? [1] : []

    content {
      sid = "Locks"
      actions = [
        "s3:GetObjectLegalHold",
        "s3:GetObjectRetention",
        "s3:PutObjectRetention",
      ]
      resources = [local.archive_objects]
    }
  }

  statement {
    sid = "Proofs"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = [local.archive_proofs]
  }

  dynamic "statement" {
    for_each = length(local.archive_kms_keys) > 0 ? [local.archive_kms_keys] : []

    content {
      sid = "Keys"
      actions = [
        "kms:Decrypt",
        "kms:GenerateDataKey",
      ]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(var.archive_signing_key_arns) > 0 ? [var.archive_signing_key_arns] : []

    content {
      sid       = "Sign"
      actions   = ["kms:Sign"]
      resources = statement.value

      condition {
        test     = "StringEquals"
        variable = "kms:SigningAlgorithm"
        values   = ["ED25519_SHA_512"]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:MessageType"
        values   = ["RAW"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.archive_signing_key_arns) > 0 ? [var.archive_signing_key_arns] : []

    content {
      sid       = "SigningKey"
      actions   = ["kms:GetPublicKey"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.heads_bucket_arn == null ? [] : [var.heads_bucket_arn]

    content {
      sid = "Heads"
      actions = [
        "s3:GetObject",
        "s3:PutObject",
      ]
      resources = ["${statement.value}/proof/*/heads/*"]
    }
  }
}

# Reads objects, removes those past their term, writes lists of deleted ids; and seals.
data "aws_iam_policy_document" "cleanup_worker" {
  statement {
    sid = "Names"
    actions = [
      "s3:ListBucket",
      "s3:ListBucketVersions",
    ]
    resources = [aws_s3_bucket.archive.arn]
  }

  statement {
    sid = "Objects"
    actions = [
      "s3:DeleteObject",
      "s3:DeleteObjectVersion",
      "s3:GetObject",
      "s3:GetObjectVersion",
    ]
    resources = [local.archive_objects]
  }

  # Locked or not is looked for before anything is removed.
  dynamic "statement" {
    for_each = var.archive_object_lock ? [1] : []

    content {
      sid = "Locks"
      actions = [
        "s3:GetObjectLegalHold",
        "s3:GetObjectRetention",
      ]
      resources = [local.archive_objects]
    }
  }

  statement {
    sid = "Proofs"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
    ]
    resources = [local.archive_proofs]
  }

  dynamic "statement" {
    for_each = length(local.archive_kms_keys) > 0 ? [local.archive_kms_keys] : []

    content {
      sid = "Keys"
      actions = [
        "kms:Decrypt",
        "kms:GenerateDataKey",
      ]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(var.archive_signing_key_arns) > 0 ? [var.archive_signing_key_arns] : []

    content {
      sid       = "Sign"
      actions   = ["kms:Sign"]
      resources = statement.value

      condition {
        test     = "StringEquals"
        variable = "kms:SigningAlgorithm"
        values   = ["ED25519_SHA_512"]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:MessageType"
        values   = ["RAW"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.archive_signing_key_arns) > 0 ? [var.archive_signing_key_arns] : []

    content {
      sid       = "SigningKey"
      actions   = ["kms:GetPublicKey"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.heads_bucket_arn == null ? [] : [var.heads_bucket_arn]

    content {
      sid = "Heads"
      actions = [
        "s3:GetObject",
        "s3:PutObject",
      ]
      resources = ["${statement.value}/proof/*/heads/*"]
    }
  }
}

# `GET /archives/search` reads blocks of objects. It lists nothing, so that S3 answers 403 for an object
# that is not there; `fleetctl verify` tells the two apart.
data "aws_iam_policy_document" "ingest_api" {
  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject"]
    resources = [local.archive_objects]
  }

  dynamic "statement" {
    for_each = length(local.archive_kms_keys) > 0 ? [local.archive_kms_keys] : []

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }
}

# Compares the archive's names and chains with PostgreSQL, and reads no object.
data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "Names"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.archive.arn]
  }

  statement {
    sid       = "Proofs"
    actions   = ["s3:GetObject"]
    resources = [local.archive_proofs]
  }

  dynamic "statement" {
    for_each = length(local.archive_kms_keys) > 0 ? [local.archive_kms_keys] : []

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.heads_bucket_arn == null ? [] : [var.heads_bucket_arn]

    content {
      sid       = "HeadNames"
      actions   = ["s3:ListBucket"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.heads_bucket_arn == null ? [] : [var.heads_bucket_arn]

    content {
      sid       = "Heads"
      actions   = ["s3:GetObject"]
      resources = ["${statement.value}/proof/*/heads/*"]
    }
  }
}

# `fleetctl verify`, `fleetctl evidence`, `fleetctl audit reconcile`: whoever checks the archive, from the
# bucket itself.
data "aws_iam_policy_document" "archive_reader" {
  statement {
    sid       = "Names"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.archive.arn]
  }

  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject"]
    resources = [local.archive_objects, local.archive_proofs]
  }

  dynamic "statement" {
    for_each = length(local.archive_kms_keys) > 0 ? [local.archive_kms_keys] : []

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = var.heads_bucket_arn == null ? [] : [var.heads_bucket_arn]

    content {
      sid       = "HeadNames"
      actions   = ["s3:ListBucket"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.heads_bucket_arn == null ? [] : [var.heads_bucket_arn]

    content {
      sid       = "Heads"
      actions   = ["s3:GetObject"]
      resources = ["${statement.value}/proof/*/heads/*"]
    }
  }
}

resource "aws_iam_policy" "archive" {
  for_each = local.archive_rights

  name        = "${var.archive_bucket}-${each.key}"
  description = "What ${each.key} does with the audit archive"
  policy      = each.value
}

output "archive_policy_arns" {
  description = "By process: attach each to the role of its tasks"
  value       = { for process, policy in aws_iam_policy.archive : process => policy.arn }
}
