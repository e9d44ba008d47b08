# Laravel's schedule:run as a Fargate task of its own, started every minute by EventBridge
# Scheduler. The same as template.yaml beside it.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

# ---- What to set ------------------------------------------------------------------------------

variable "name" {
  description = "What the task definition, the schedule and the log group are called."
  type        = string
  default     = "laravel-scheduler"
}

variable "cluster_name" {
  description = "The ECS cluster that the tasks run in."
  type        = string
}

variable "image" {
  description = "The application's image, best by digest (REPOSITORY@sha256:...)."
  type        = string
}

variable "repository_name" {
  description = "The ECR repository of the image, in this account and region."
  type        = string
}

variable "subnets" {
  description = "Private subnets with a way to ECR, S3 and CloudWatch Logs, best by VPC endpoints."
  type        = list(string)
}

variable "security_groups" {
  description = "What the jobs may reach, such as Redis and the database."
  type        = list(string)
}

variable "assign_public_ip" {
  description = "true only in public subnets, where it is the only way to ECR."
  type        = bool
  default     = false
}

variable "environment" {
  description = "The application's variables, as in the task definition of the web service."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "The application's secrets: variable => ARN in Secrets Manager or the parameter store, encrypted with AWS's own keys."
  type        = map(string)
  default     = {}
}

variable "cpu" {
  description = "CPU units; less makes PHP start later."
  type        = number
  default     = 256
}

variable "memory" {
  description = "MiB, one of those that Fargate offers for the CPU units."
  type        = number
  default     = 512
}

variable "cpu_architecture" {
  description = "The architecture of the image: X86_64 or ARM64."
  type        = string
  default     = "X86_64"
}

variable "user" {
  description = "Who runs schedule:run in the container."
  type        = string
  default     = "www-data"
}

variable "working_directory" {
  description = "Where artisan is."
  type        = string
  default     = "/var/www/html"
}

variable "log_retention_days" {
  description = "How many days the scheduler's log is kept."
  type        = number
  default     = 30
}

# ---- Where ------------------------------------------------------------------------------------

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

data "aws_ecs_cluster" "this" {
  cluster_name = var.cluster_name
}

data "aws_ecr_repository" "this" {
  name = var.repository_name
}

# The region of the cluster, from its ARN: how the provider tells its own depends on its version.
locals {
  region = split(":", data.aws_ecs_cluster.this.arn)[3]
}

# ---- The task ---------------------------------------------------------------------------------

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([{
    name      = "app"
    image     = var.image
    essential = true
    # No entrypoint of the image, no loop: one run, and the container ends. It inherits the
    # container's output, so an unprivileged user can write it.
    entryPoint       = ["php"]
    command          = ["artisan", "schedule:run"]
    user             = var.user
    workingDirectory = var.working_directory
    stopTimeout      = 120
    # Records such as "Scheduled command [..] failed" go where the watchdog reads.
    environment = [
      for name, value in merge({ LOG_CHANNEL = "stderr" }, var.environment) : { name = name, value = value }
    ]
    secrets = [
      for name, arn in var.secrets : { name = name, valueFrom = arn }
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.this.name
        "awslogs-region"        = local.region
        "awslogs-stream-prefix" = "scheduler"
        # Few lines, and each counts: the default mode may drop some.
        "mode" = "blocking"
      }
    }
  }])
}

data "aws_iam_policy_document" "assumed_by_tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

# Pulls the image and writes the log.
resource "aws_iam_role" "execution" {
  name_prefix        = "scheduler-execution-"
  description        = "Pulls the image of ${var.name} and writes its log."
  assume_role_policy = data.aws_iam_policy_document.assumed_by_tasks.json
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "LogInToRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # knows no resources
  }
  statement {
    sid       = "PullImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [data.aws_ecr_repository.this.arn]
  }
  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }
  dynamic "statement" {
    for_each = length(var.secrets) > 0 ? [1] : []
    content {
      sid       = "ReadSecrets"
      actions   = ["secretsmanager:GetSecretValue", "ssm:GetParameters"]
      resources = values(var.secrets)
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# What the jobs themselves may do in AWS: nothing, so far.
resource "aws_iam_role" "task" {
  name_prefix        = "scheduler-task-"
  description        = "What the jobs of ${var.name} may do."
  assume_role_policy = data.aws_iam_policy_document.assumed_by_tasks.json
}

# ---- The schedule -----------------------------------------------------------------------------

data "aws_iam_policy_document" "assumed_by_scheduler" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

# Starts the task.
resource "aws_iam_role" "start" {
  name_prefix        = "scheduler-start-"
  description        = "Starts the task ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.assumed_by_scheduler.json
}

data "aws_iam_policy_document" "start" {
  statement {
    sid     = "RunTask"
    actions = ["ecs:RunTask"]
    resources = [
      "arn:${data.aws_partition.current.partition}:ecs:${local.region}:${data.aws_caller_identity.current.account_id}:task-definition/${var.name}:*",
    ]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [data.aws_ecs_cluster.this.arn]
    }
  }
  statement {
    sid       = "PassTaskRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.task.arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
  statement {
    sid       = "ReportFailedStarts"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed_starts.arn]
  }
}

resource "aws_iam_role_policy" "start" {
  name   = "run-task"
  role   = aws_iam_role.start.id
  policy = data.aws_iam_policy_document.start.json
}

resource "aws_scheduler_schedule" "every_minute" {
  name        = var.name
  description = "Starts Laravel's schedule:run."
  # At the full minute, unlike rate(1 minute): that leaves the task's start most of the minute.
  schedule_expression = "cron(* * * * ? *)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = data.aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.start.arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.this.arn
      task_count          = 1
      launch_type         = "FARGATE"
      platform_version    = "LATEST"

      network_configuration {
        subnets          = var.subnets
        security_groups  = var.security_groups
        assign_public_ip = var.assign_public_ip
      }
    }

    # A start that is late is worthless: the next one has come by then. 60 s is the least.
    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 2
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed_starts.arn
    }
  }
}

# Starts that EventBridge Scheduler gave up, with ECS's answer.
resource "aws_sqs_queue" "failed_starts" {
  name_prefix               = "${var.name}-failed-starts-"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600 # 14 days
}

# ---- For the watchdog -------------------------------------------------------------------------

output "log_group" {
  description = "For log_groups."
  value       = aws_cloudwatch_log_group.this.name
}

output "task_definition" {
  description = "For ecs.task_definition."
  value       = aws_ecs_task_definition.this.family
}

output "failed_starts_url" {
  description = "The queue of starts that failed."
  value       = aws_sqs_queue.failed_starts.url
}
