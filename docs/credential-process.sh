#!/bin/sh
# Gives the AWS CLI and SDKs the access key that iamkeys keeps in a secret. In ~/.aws/config:
#
#   [profile app]
#   credential_process = /usr/local/bin/credential-process.sh iamkeys/ci-deploy/access-key bootstrap
#
# The second word is the profile that may read the secret: an instance role, IAM
# Roles Anywhere. Without an Expiration an SDK would never ask again and so never
# see a new key; this one makes it ask every hour.
set -eu
value=$(aws --profile "$2" secretsmanager get-secret-value --secret-id "$1" --version-stage AWSCURRENT --query SecretString --output text)
at=$(($(date +%s) + 3600))
in_an_hour=$(date -u -d "@$at" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null || date -u -r "$at" +%Y-%m-%dT%H:%M:%SZ) # GNU and BusyBox, BSD
printf '%s, "Expiration": "%s"}\n' "${value%\}}" "$in_an_hour"
