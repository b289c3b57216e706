"""Who calls moto, and what IAM, STS and Organizations refuse: whose key signed a request, does its secret fit, does an
organization's policy forbid it, may this role be assumed. moto accepts any key, any role and any caller.

A caller is known by its key: a user's (AKIA...) or an assumed role's (ASIA...) belongs to the account that made it.
The functions sign with their account's ID, and their session token is the ARN of their role (correct_ministack.py sees
to it). Anybody else is a developer of the default account, or of the one that the header x-moto-account-id names, and
not questioned.
"""

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import parse_qs

ACCOUNT_ID = "123456789012"  # the default account: the stack's own


def iam(account_id):
    """moto's IAM of an account."""
    from moto.iam.models import iam_backends

    return iam_backends[account_id]["aws"]


def owner(key_id):
    """(account, key) of an access key, or (None, None)."""
    from moto.iam.models import iam_backends

    for account_id in list(iam_backends):
        key = iam(account_id).access_keys.get(key_id)
        if key is not None:
            return account_id, key
    return None, None


def refusal(environ, body):
    """(code, message) when AWS would refuse this request before looking at what it wants; else None."""
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    return disowned(authorization) or forgery(environ, body) or denied(environ, body)


def scope(authorization):
    """(key ID, Region, service) of an Authorization header, or None when the request is not signed."""
    parts = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    return (parts[0], parts[2], parts[3]) if len(parts) == 5 else None


def signer(authorization):
    """(key ID, Region, service) when a user's key signed; None for any other signer.

    Only users' keys begin with AKIA. The placeholder credentials of functions and developers are not questioned.
    """
    signed = scope(authorization)
    return signed if signed and signed[0].startswith("AKIA") else None


def disowned(authorization):
    """(code, message) when the request is signed with a user's key that is deleted or not Active. moto accepts any key."""
    signed = signer(authorization)
    key = owner(signed[0])[1] if signed else None
    if signed and (key is None or key.status != "Active"):
        return "InvalidClientTokenId", "The security token included in the request is invalid."
    return None


def forgery(environ, body):
    """(code, message) when a user's key signed with another secret than its own."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    authorization = environ.get("HTTP_AUTHORIZATION", "")
    signed = signer(authorization)
    if not signed:
        return None
    key_id, region, service = signed
    headers = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
    headers["content-type"], headers["content-length"] = environ.get("CONTENT_TYPE", ""), environ.get("CONTENT_LENGTH", "")
    names = authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    query = "?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else ""
    request = AWSRequest(
        method=environ["REQUEST_METHOD"],
        url=f"http://{environ['HTTP_HOST']}{environ['PATH_INFO']}{query}",
        data=body,
        headers={name: headers[name] for name in names if name in headers},
    )
    request.context["timestamp"] = headers.get("x-amz-date", "")
    auth = SigV4Auth(Credentials(key_id, owner(key_id)[1].secret_access_key), service, region)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    if signature != authorization.partition("Signature=")[2].partition(",")[0].strip():
        return "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."
    return None


def authenticate(request):
    """{"authorization": "AWS4-HMAC-SHA256 ..."} -> {"code": null or the refusal's}; an accepted use is recorded.

    For requests to the other emulator. Their signature is not verified.
    """
    from moto.iam.models import mark_account_as_visited

    refused = disowned(request["authorization"])
    signed = signer(request["authorization"])
    if signed and not refused:
        mark_account_as_visited(owner(signed[0])[0], signed[0], signed[2], signed[1])
    return {"code": refused[0] if refused else None, "message": refused[1] if refused else None}


@dataclass
class Caller:
    account: str
    arn: str  # as a refusal names it
    principal: str  # the user, role or account whose ARN policies name
    questioned: bool  # whether policies hold for it: developers set up what they forbid

    @property
    def is_role(self):
        return ":role/" in self.principal


def caller(environ):
    from moto.sts.models import sts_backends

    signed = scope(environ.get("HTTP_AUTHORIZATION", ""))
    key_id = signed[0] if signed else ""
    account_id, key = owner(key_id)
    if key is not None and key_id.startswith("ASIA"):
        session = sts_backends[account_id]["aws"].get_assumed_role_from_access_key(key_id)
        return Caller(account_id, session.arn, session.role_arn, True)
    if key is not None:
        arn = iam(account_id).get_user(key.user_name).arn
        return Caller(account_id, arn, arn, True)
    role = re.fullmatch(r"arn:aws:iam::(\d{12}):role/(?:.*/)?([^/]+)", environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""))
    if role:
        return Caller(role[1], f"arn:aws:sts::{role[1]}:assumed-role/{role[2]}/function", role[0], True)
    account_id = environ.get("HTTP_X_MOTO_ACCOUNT_ID") or ACCOUNT_ID
    return Caller(account_id, f"arn:aws:iam::{account_id}:root", f"arn:aws:iam::{account_id}:root", False)


REST = {("POST", "/findings/import"): "BatchImportFindings", ("POST", "/findings"): "GetFindings", ("POST", "/v2/email/outbound-emails"): "SendEmail"}


def denied(environ, body):
    """(code, message) when a policy forbids this call: an organization's, or the trust of the role to assume."""
    signed = scope(environ.get("HTTP_AUTHORIZATION", ""))
    if not signed:
        return None
    form = {k: v[0] for k, v in parse_qs(body.decode("utf-8", "replace")).items()}
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    name = form.get("Action") or target.rpartition(".")[2] or REST.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]), "")
    action = f"{signed[2]}:{name}"
    who = caller(environ)
    if who.questioned and forbids(policies_over(who.account, "SERVICE_CONTROL_POLICY"), action, who):
        resource = form.get("RoleArn", "*")
        return "AccessDenied", unauthorized(who, action, resource) + " with an explicit deny in a service control policy"
    own = [json.loads(document) for document in policies_of(who)]
    if own and not allows(own, action, who) and action != "sts:GetCallerIdentity":  # which needs no permission
        return "AccessDenied", unauthorized(who, action, "*") + f" because no identity-based policy allows the {action} action"
    return assumption(who, form) if action == "sts:AssumeRole" else None


def policies_of(who):
    """The inline policies of the role that calls, if moto knows it. A role without any may do anything here."""
    role = next((r for r in list(iam(who.account).roles.values()) if r.arn == who.principal), None)
    return role.policies.values() if role else []


def unauthorized(who, action, resource):
    return f"User: {who.arn} is not authorized to perform: {action} on resource: {resource}"


def assumption(who, form):
    """(code, message) when STS would not let this caller assume the role. moto lets anybody assume anything, also roles that do not exist."""
    for field, pattern in {
        "RoleArn": r"arn:aws[\w-]*:iam::\d{12}:role/[\x21-\x7e]+",
        "RoleSessionName": r"[\w+=,.@-]{2,64}",
        "ExternalId": r"[\w+=,.@:\\/-]{2,1224}",
    }.items():
        if (field in form or field != "ExternalId") and not re.fullmatch(pattern, form.get(field, "")):
            name = field[0].lower() + field[1:]
            return "ValidationError", f"1 validation error detected: Value '{form.get(field, '')}' at '{name}' failed to satisfy constraint: Member must satisfy regular expression pattern: {pattern}"
    arn = form["RoleArn"]
    account_id = arn.split(":")[4]
    role = next((r for r in list(iam(account_id).roles.values()) if r.arn == arn), None)
    member = member_of(account_id)
    no = "AccessDenied", unauthorized(who, "sts:AssumeRole", arn)
    # STS does not say which: no such role, a closed account, or a trust that does not hold.
    if role is None or member is not None and member.state not in (None, "ACTIVE"):
        return no
    if forbids(policies_over(account_id, "RESOURCE_CONTROL_POLICY"), "sts:AssumeRole", who, form):
        return no[0], no[1] + " with an explicit deny in a resource control policy"
    trust = json.loads(role.assume_role_policy_document)
    if forbids([trust], "sts:AssumeRole", who, form):
        return no[0], no[1] + " with an explicit deny in a resource-based policy"
    if not allows([trust], "sts:AssumeRole", who, form):
        return no
    seconds = int(form.get("DurationSeconds") or 3600)
    if who.is_role and seconds > 3600:
        return "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    if not 900 <= seconds <= int(role.max_session_duration or 3600):
        return "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    return None


# Organizations


def management_of(account_id):
    """The organization's backend that this account is in, or None."""
    from moto.organizations.models import organizations_backends

    if account_id in organizations_backends.master_accounts:
        account_id = organizations_backends.master_accounts[account_id][0]
    backend = organizations_backends[account_id]["aws"]
    return backend if backend.org else None


def member_of(account_id):
    """The account as its organization knows it, or None."""
    backend = management_of(account_id)
    return next((a for a in backend.accounts if a.id == account_id), None) if backend else None


def policies_over(account_id, kind):
    """The organization's policies of a kind that hold for this account: its own, and those of the units above it. None holds for the management account."""
    backend, member = management_of(account_id), member_of(account_id)
    if backend is None or member is None or account_id == backend.account_id:
        return []
    above, node = [], member
    while node is not None:
        above.append(node)
        node = next((unit for unit in backend.ou if unit.id == node.parent_id), None)
    return [json.loads(policy.content) for node in above for policy in node.attached_policies if policy.type == kind]


# Policies, as far as local tests use them


def allows(policies, action, who, form=None):
    return any(applies("Allow", s, action, who, form or {}) for p in policies for s in listed(p["Statement"]))


def forbids(policies, action, who, form=None):
    return any(applies("Deny", s, action, who, form or {}) for p in policies for s in listed(p["Statement"]))


def listed(value):
    return value if isinstance(value, list) else [value]


def applies(effect, statement, action, who, form):
    if statement["Effect"] != effect:
        return False
    named = any(fnmatchcase(action.lower(), pattern.lower()) for pattern in listed(statement.get("Action", statement.get("NotAction", []))))
    if named == ("NotAction" in statement):
        return False
    if "Principal" in statement and not is_principal(who, statement["Principal"]):
        return False
    backend = management_of(who.account)
    facts = {
        "sts:externalid": form.get("ExternalId"),
        "aws:principalorgid": backend.org.id if backend else None,
        "aws:principalarn": who.principal,
        "aws:principalaccount": who.account,
    }
    return all(
        holds(operator, facts.get(key.lower()), [str(v) for v in listed(values)], effect)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def is_principal(who, principal):
    named = principal if isinstance(principal, str) else principal.get("AWS", [])
    return any(p in ("*", who.account, f"arn:aws:iam::{who.account}:root", who.principal, who.arn) for p in listed(named))


def holds(operator, fact, values, effect):
    """Whether a condition holds. An operator that is not known here keeps everybody out."""
    match = re.fullmatch(r"(String|Arn)(Not)?(Equals|Like)(IfExists)?", operator)
    if not match:
        return effect == "Deny"
    if fact is None:
        return bool(match[2] or match[4])
    like = match[3] == "Like" or match[1] == "Arn"
    found = any(fnmatchcase(fact, value) if like else fact == value for value in values)
    return found != bool(match[2])
