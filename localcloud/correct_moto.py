"""Corrects moto where it differs from AWS in a way that iamkeys would notice. Each function says how AWS differs.

What moto refuses to nobody (a wrong key, a role without trust, what an organization forbids) is in access.py.
"""

import json
import re
from datetime import datetime, timedelta, timezone

from access import Caller, allows, management_of

REPORT_TIME = "%Y-%m-%dT%H:%M:%S+00:00"


def everything():
    correct_iam()
    correct_secrets_manager()
    correct_organizations()
    correct_security_hub()
    correct_ses()


def correct_iam():
    """The credential report as AWS writes it: with the root user's row, Regions and services, more keys than two, and the time it was made.

    moto leaves the root user and a third key out, says not_supported for every Region and service, and dates the report 2015.
    """
    from moto.core.responses import ActionResult
    from moto.iam.models import IAMBackend, User
    from moto.iam.responses import IamResponse

    def cells(key):
        if key is None:
            return ["false"] + ["N/A"] * 4
        used = key.last_used
        last = [used.strftime(REPORT_TIME), used.region, used.service] if used else ["N/A"] * 3
        return ["true" if key.status == "Active" else "false", key.create_date.strftime(REPORT_TIME)] + last

    moto_row = User.to_csv

    def user_row(self):
        row = moto_row(self).rstrip("\n").split(",")
        # The name and ARN are written again at their known end: commas are legal in user names.
        rest = row[-20:]
        keys = (list(self.access_keys) + [None, None])[:2]
        rest[6:11], rest[11:16] = cells(keys[0]), cells(keys[1])
        return ",".join([quoted(self.name), quoted(self.arn)] + rest) + "\n"

    def quoted(cell):
        return '"' + cell + '"' if "," in cell else cell

    def get_credential_report(self):
        users = moto_report(self)
        header, _, rows = users.partition("\n")
        made = datetime(2020, 1, 1).strftime(REPORT_TIME)
        root = ["<root_account>", f"arn:aws:iam::{self.account_id}:root", made, "not_supported", "no_information"]
        root += ["not_supported"] * 2 + ["true"] + cells(getattr(self, "root_access_key", None)) + cells(None) + ["false", "N/A", "false", "N/A"]
        lines = [header, ",".join(root)] + rows.splitlines()
        more = [max(len(user.access_keys) - 2, 0) for user in self.users.values()]
        if any(more):  # only then is the column there
            lines = [line + "," + cell for line, cell in zip(lines, ["additional_credentials_info", "0"] + [str(n) for n in more])]
        return "\n".join(lines) + "\n"

    moto_report = IAMBackend.get_credential_report

    def respond(self):
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return ActionResult({"Content": self.backend.get_credential_report(), "ReportFormat": "text/csv", "GeneratedTime": now})

    User.to_csv = user_row
    IAMBackend.get_credential_report = get_credential_report
    IamResponse.get_credential_report = respond


def correct_secrets_manager():
    """Staging labels as AWS moves them.

    In moto a Put that moves AWSCURRENT strips all other labels from the version that was current, GetSecretValue
    without a stage misses a move by UpdateSecretVersionStage, a version without labels stays in DescribeSecret,
    a change of labels does not change LastChangedDate, and a secret marked for deletion accepts a Put.
    UpdateSecretVersionStage moves a label for whoever asks, also in a replica; AWS moves one that stands on another
    version only for a caller whose RemoveFromVersionId names that version, and in a replica nothing. AWS keeps 20
    labels a secret, never lets AWSCURRENT stand nowhere, and tells the PrimaryRegion of whatever is replicated.
    """
    import time

    from moto.secretsmanager.exceptions import (
        InvalidParameterException,
        InvalidRequestException,
        OperationNotPermittedOnReplica,
        SecretNotFoundException,
        SecretsManagerClientError,
    )
    from moto.secretsmanager.models import FakeSecret, ReplicaSecret, SecretsManagerBackend

    def holder(secret, label):
        return next((v for v, version in secret.versions.items() if label in version["version_stages"]), None)

    def reset_default_version(self, secret_version, version_id):
        taken = [label for label in secret_version["version_stages"] if label != "AWSCURRENT"]
        for version in self.versions.values():
            version["version_stages"] = [s for s in version["version_stages"] if s != "AWSPREVIOUS" and s not in taken]
            if "AWSCURRENT" in version["version_stages"]:
                version["version_stages"] = [s for s in version["version_stages"] if s != "AWSCURRENT"] + ["AWSPREVIOUS"]
        self.versions[version_id] = secret_version
        self.default_version_id = version_id

    def version_ids_to_stages(self):
        return {v: list(version["version_stages"]) for v, version in self.versions.items() if version["version_stages"]}

    moto_dict = FakeSecret.to_dict

    def to_dict(self):
        return moto_dict(self) | ({"PrimaryRegion": self.region} if self.replicas else {})

    def wrap(name, before=None, after=None):
        moto_method = getattr(SecretsManagerBackend, name)

        def method(self, secret_id, *args, **kwargs):
            secret = self.secrets.get(secret_id)
            if secret is not None and before:
                before(secret)
            result = moto_method(self, secret_id, *args, **kwargs)
            if secret is not None and after:
                after(secret)
            return result

        setattr(SecretsManagerBackend, name, method)

    def refuse_deleted(secret):
        if secret.is_deleted():
            raise InvalidRequestException("You can't perform this operation on the secret because it was marked for deletion.")

    def refuse_more_labels(secret, labels):
        there = {label for version in secret.versions.values() for label in version["version_stages"]}
        if len(there | set(labels)) > 20:
            raise SecretsManagerClientError("LimitExceededException", "The request failed because it would exceed one of the Secrets Manager quotas.")

    def follow_current(secret):
        if not isinstance(secret, ReplicaSecret):
            secret.default_version_id = holder(secret, "AWSCURRENT") or secret.default_version_id

    def changed(secret):
        secret.last_changed_date = time.time()
        follow_current(secret)

    def update_secret_version_stage(self, secret_id, version_stage, remove_from_version_id, move_to_version_id):
        secret = self.secrets.get(secret_id)
        if secret is None:
            raise SecretNotFoundException()
        if isinstance(secret, ReplicaSecret):
            raise OperationNotPermittedOnReplica
        refuse_deleted(secret)
        for version_id in (remove_from_version_id, move_to_version_id):
            if version_id and version_id not in secret.versions:
                raise InvalidParameterException(f"Not a valid version: {version_id}")
        held = holder(secret, version_stage)
        if remove_from_version_id and held != remove_from_version_id:
            raise InvalidParameterException(f"Version stage {version_stage} not found in version {remove_from_version_id}")
        if move_to_version_id and not remove_from_version_id and held not in (None, move_to_version_id):
            raise InvalidParameterException(
                f"The parameter RemoveFromVersionId can't be empty. Staging label {version_stage} is currently attached to version {held}, "
                "so you must explicitly reference that version in RemoveFromVersionId."
            )
        if version_stage == "AWSCURRENT" and not move_to_version_id:
            raise InvalidParameterException("You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.")
        refuse_more_labels(secret, [version_stage] if move_to_version_id else [])

        moved = [version_stage]
        if version_stage == "AWSCURRENT" and held != move_to_version_id:
            moved.append("AWSPREVIOUS")  # AWS moves it along, to where AWSCURRENT was
        for version in secret.versions.values():
            version["version_stages"] = [s for s in version["version_stages"] if s not in moved]
        if move_to_version_id:
            secret.versions[move_to_version_id]["version_stages"].append(version_stage)
        if held and "AWSPREVIOUS" in moved:
            secret.versions[held]["version_stages"].append("AWSPREVIOUS")
        changed(secret)
        return secret.arn, secret.name

    moto_put = SecretsManagerBackend.put_secret_value

    def put_secret_value(self, secret_id, secret_string, secret_binary, client_request_token, version_stages):
        secret = self.secrets.get(secret_id)
        if isinstance(secret, FakeSecret) and client_request_token not in secret.versions:
            refuse_more_labels(secret, version_stages)
        return moto_put(self, secret_id, secret_string, secret_binary, client_request_token, version_stages)

    FakeSecret.reset_default_version = reset_default_version
    FakeSecret._form_version_ids_to_stages = version_ids_to_stages
    FakeSecret.to_dict = to_dict
    SecretsManagerBackend.put_secret_value = put_secret_value
    SecretsManagerBackend.update_secret_version_stage = update_secret_version_stage
    wrap("get_secret_value", before=follow_current)
    wrap("put_secret_value", before=refuse_deleted, after=changed)


def correct_organizations():
    """ListAccounts as AWS answers it.

    In moto a page has all accounts, a member gets an empty list instead of all (a delegated administrator, or one that
    the resource policy names) or AccessDeniedException, and there are no resource policies. AWS has pages of 20 at most,
    of which one may be empty and go on (here each second one is), no longer says Status, and calls a closed account CLOSED.
    """
    from moto.organizations.exceptions import AWSOrganizationsNotInUseException, InvalidInputException
    from moto.organizations.exceptions import OrganizationsClientError as Refusal
    from moto.organizations.models import FakeAccount, FakeDelegatedAdministrator, FakeServiceAccess
    from moto.organizations.responses import OrganizationsResponse

    moto_describe, moto_close = FakeAccount.describe, FakeAccount.close

    def describe(self):
        account = moto_describe(self)
        del account["Status"]
        if account["State"] is None:
            del account["State"]
        return account

    def close(self):
        moto_close(self)
        self.state = "CLOSED"

    def list_accounts(self):
        backend = management_of(self.current_account)
        if backend is None:
            raise AWSOrganizationsNotInUseException()
        arn = f"arn:aws:iam::{self.current_account}:root"
        policy = getattr(backend, "resource_policy", None)
        named = policy and allows([json.loads(policy)], "organizations:ListAccounts", Caller(self.current_account, arn, arn, True))
        administers = any(admin.account.id == self.current_account for admin in backend.admins)
        if not (self.current_account == backend.account_id or administers or named):
            raise Refusal("AccessDeniedException", "You don't have permissions to access this resource.")
        size = self._get_int_param("MaxResults") or 20
        page, token = int(size), self._get_param("NextToken") or "0"
        if not 1 <= page <= 20 or not re.fullmatch(r"\d+(-empty)?", token):
            raise InvalidInputException("You provided a value that does not match the required pattern.")
        start, empty = int(token.removesuffix("-empty")), token.endswith("-empty")
        accounts = [] if empty else backend.accounts[start : start + page]
        start += len(accounts)
        answer = {"Accounts": [a.describe() for a in accounts]}
        if start < len(backend.accounts):
            answer["NextToken"] = f"{start}" if empty else f"{start}-empty"
        return json.dumps(answer)

    def policy_of(self):
        if self.organizations_backend.org is None:
            raise Refusal("AccessDeniedException", "You don't have permissions to access this resource.")
        content = getattr(self.organizations_backend, "resource_policy", None)
        if content is None:
            raise Refusal("ResourcePolicyNotFoundException", "We can't find a resource policy request with the parameter that you specified.")
        return json.dumps({"ResourcePolicy": {"ResourcePolicySummary": {"Id": "rp-local"}, "Content": content}})

    def put_resource_policy(self):
        self.organizations_backend.resource_policy = self._get_param("Content")
        return policy_of(self)

    def delete_resource_policy(self):
        policy_of(self)
        self.organizations_backend.resource_policy = None
        return "{}"

    FakeAccount.describe, FakeAccount.close = describe, close
    OrganizationsResponse.list_accounts = list_accounts
    OrganizationsResponse.put_resource_policy = put_resource_policy
    OrganizationsResponse.describe_resource_policy = policy_of
    OrganizationsResponse.delete_resource_policy = delete_resource_policy
    services = ["member.org.stacksets.cloudformation.amazonaws.com", "securityhub.amazonaws.com", "health.amazonaws.com"]
    FakeDelegatedAdministrator.SUPPORTED_SERVICES = FakeDelegatedAdministrator.SUPPORTED_SERVICES + services
    FakeServiceAccess.TRUSTED_SERVICES = FakeServiceAccess.TRUSTED_SERVICES + services


def correct_security_hub():
    """BatchImportFindings and GetFindings as AWS answers them.

    moto imports into a hub that is off, any number of findings of any account, product and form, lets an older
    UpdatedAt win and an import change what belongs to people (workflow, notes); its GetFindings ignores filters, and
    it has no BatchUpdateFindings, by which people work on findings.
    AWS refuses a call as a whole for the hub and the number, and each malformed finding by itself.
    """
    from moto.securityhub import urls
    from moto.securityhub.exceptions import SecurityHubClientError as Refusal
    from moto.securityhub.models import Finding, SecurityHubBackend
    from moto.securityhub.responses import SecurityHubResponse

    lengths = {"Id": 512, "GeneratorId": 512, "Title": 256, "Description": 1024, "ProductArn": 2048}
    labels = {"INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"}
    namespaces = {
        "Software and Configuration Checks", "TTPs", "Effects", "Unusual Behaviors", "Sensitive Data Identifications",
    }
    peoples = ("Workflow", "Note", "UserDefinedFields", "VerificationState", "Confidence", "Criticality", "RelatedFindings", "Severity", "Types")
    time = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})")

    def fault(hub, f):
        """What is wrong with a finding, or None."""
        for field in ("SchemaVersion", "Id", "ProductArn", "GeneratorId", "AwsAccountId", "CreatedAt", "UpdatedAt", "Title", "Description"):
            if not isinstance(f.get(field), str) or not f[field].strip():
                return f"{field} is missing or not a string"
        if f["SchemaVersion"] != "2018-10-08":
            return "SchemaVersion is not 2018-10-08"
        for field, most in lengths.items():
            if len(f[field]) > most:
                return f"{field} is longer than {most} characters"
        if f["AwsAccountId"] != hub.account_id:
            return "AwsAccountId is not the account that calls"
        if f["ProductArn"] != f"arn:aws:securityhub:{hub.region_name}:{hub.account_id}:product/{hub.account_id}/default":
            return "ProductArn is no product of this account and Region"
        for field in ("CreatedAt", "UpdatedAt", "FirstObservedAt", "LastObservedAt"):
            if field in f and not time.fullmatch(f[field]):
                return f"{field} is no ISO 8601 time"
        if moment(f["UpdatedAt"]) > datetime.now(timezone.utc) + timedelta(minutes=5):
            return "UpdatedAt is in the future"
        provider = f.get("FindingProviderFields") or {}
        severity = provider.get("Severity") or f.get("Severity") or {}
        if severity.get("Label") not in labels and not isinstance(severity.get("Normalized"), int):
            return "Severity has neither a Label nor Normalized"
        types = provider.get("Types") or f.get("Types") or []
        if len(types) > 50 or any(t.split("/")[0] not in namespaces or len(t.split("/")) > 3 for t in types):
            return "Types has a value that is not namespace/category/classifier"
        resources = f.get("Resources")
        if not isinstance(resources, list) or not 1 <= len(resources) <= 32:
            return "Resources has fewer than 1 or more than 32 entries"
        for resource in resources:
            if not resource.get("Type") or not resource.get("Id") or len(resource["Id"]) > 512:
                return "a resource has no Type, or no Id of 512 characters at most"
            key = resource.get("Details", {}).get("AwsIamAccessKey", {})
            if key.get("Status") not in (None, "Active", "Inactive"):
                return "AwsIamAccessKey.Status is neither Active nor Inactive"
            if "CreatedAt" in key and not time.fullmatch(key["CreatedAt"]):
                return "AwsIamAccessKey.CreatedAt is no ISO 8601 time"
        if f.get("RecordState") not in (None, "ACTIVE", "ARCHIVED"):
            return "RecordState is neither ACTIVE nor ARCHIVED"
        compliance = f.get("Compliance") or {}
        if compliance.get("Status") not in (None, "PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"):
            return "Compliance.Status is unknown"
        if any(len(r) > 64 for r in compliance.get("RelatedRequirements") or []):
            return "a related requirement is longer than 64 characters"
        recommendation = (f.get("Remediation") or {}).get("Recommendation") or {}
        if len(recommendation.get("Text") or "") > 512:
            return "Remediation.Recommendation.Text is longer than 512 characters"
        fields = f.get("ProductFields") or {}
        if len(fields) > 50 or any(len(k) > 128 or len(v) > 2048 for k, v in fields.items()):
            return "ProductFields has more than 50 entries, or one that is too long"
        if len(json.dumps(f).encode()) > 240 * 1024:
            return "the finding is larger than 240 KB"
        return None

    def batch_import_findings(self, findings):
        if not self.enabled:
            raise Refusal("InvalidAccessException", f"Account {self.account_id} is not subscribed to AWS Security Hub")
        findings = findings or []
        if not 1 <= len(findings) <= 100:
            raise Refusal("InvalidInputException", "Findings must have between 1 and 100 entries.")
        failed, known = [], {f.id: f for f in self.findings}
        for f in findings:
            wrong = fault(self, f)
            if wrong:
                failed.append({"Id": str(f.get("Id", "")), "ErrorCode": "InvalidInput", "ErrorMessage": wrong})
                continue
            there = known.get(f["Id"])
            if there is None:
                data = {"Workflow": {"Status": "NEW"}, "WorkflowState": "NEW", "RecordState": "ACTIVE"} | f
                known[f["Id"]] = there = Finding(f["Id"], data)
                there.people = set()  # the fields that BatchUpdateFindings changed
                self.findings.append(known[f["Id"]])
            elif moment(f["UpdatedAt"]) > moment(there.data["UpdatedAt"]):
                there.data |= {k: v for k, v in f.items() if k not in peoples}
            provider = there.data.get("FindingProviderFields") or {}
            there.data |= {k: v for k, v in provider.items() if k in ("Severity", "Types") and k not in there.people}
        return len(failed), len(findings) - len(failed), failed

    def value_of(finding, name):
        nested = {
            "SeverityLabel": ("Severity", "Label"), "WorkflowStatus": ("Workflow", "Status"), "ComplianceStatus": ("Compliance", "Status"),
        }.get(name, (name,))
        value = finding
        for part in nested:
            value = value.get(part) if isinstance(value, dict) else None
        if name == "ResourceId":
            value = [r["Id"] for r in finding["Resources"]]
        if name == "ResourceType":
            value = [r["Type"] for r in finding["Resources"]]
        if name == "Type":
            value = finding.get("Types") or []
        return value

    def matches(finding, filters):
        """Of one attribute any filter may match, of each attribute one must; NOT_... must all hold."""
        for name, wanted in filters.items():
            values = value_of(finding, name)
            values = values if isinstance(values, list) else [values or ""]
            tests = []
            for w in wanted:
                how = w.get("Comparison", "EQUALS")
                if how not in ("EQUALS", "PREFIX", "NOT_EQUALS", "PREFIX_NOT_EQUALS"):
                    raise Refusal("InvalidInputException", f"The filter of {name} compares by {how}, which the local Security Hub does not.")
                test = str.startswith if how.startswith("PREFIX") else str.__eq__
                tests.append((how.endswith("NOT_EQUALS"), any(test(v, w["Value"]) for v in values)))
            positive = [found for negative, found in tests if not negative]
            if positive and not any(positive) or any(found for negative, found in tests if negative):
                return False
        return True

    moto_get = SecurityHubBackend.get_findings

    def get_findings(self, filters=None, **kwargs):
        if not self.enabled:
            raise Refusal("InvalidAccessException", f"Account {self.account_id} is not subscribed to AWS Security Hub")
        everything = self.findings
        self.findings = [f for f in everything if matches(f.data, filters or {})]
        try:
            return moto_get(self, filters=filters, **kwargs)
        finally:
            self.findings = everything

    def batch_update_findings(self):
        update, processed, missing = json.loads(self.body), [], []
        known = {f.id: f for f in self.securityhub_backend.findings}
        peoples_fields = {k: v for k, v in update.items() if k in peoples}
        for name in update["FindingIdentifiers"]:
            there = known.get(name["Id"])
            if there is None or there.data["ProductArn"] != name["ProductArn"]:
                missing.append({"FindingIdentifier": name, "ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found"})
                continue
            there.data |= peoples_fields
            there.people |= set(peoples_fields)
            processed.append(name)
        return json.dumps({"ProcessedFindings": processed, "UnprocessedFindings": missing})

    urls.url_paths["{0}/findings/batchupdate$"] = SecurityHubResponse.dispatch
    SecurityHubResponse.batch_update_findings = batch_update_findings
    SecurityHubBackend.batch_import_findings = batch_import_findings
    SecurityHubBackend.get_findings = get_findings


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def correct_ses():
    """SES v2's SendEmail keeps the whole message for reading back, and refuses an unverified sender as v2 does.

    moto keeps one of text and HTML.
    """
    from moto.sesv2.responses import SESV2Response

    moto_send = SESV2Response.send_email

    def send_email(self):
        answer = moto_send(self)
        sent = self.sesv2_backend.core_backend.sent_messages[-1]
        sent.simple = json.loads(self.body).get("Content", {}).get("Simple", {})
        return answer

    SESV2Response.send_email = send_email
