"""What tests and the demo put into moto's accounts, and read back of them."""

import json
from datetime import datetime, timedelta, timezone

from access import ACCOUNT_ID, iam, management_of


def seed(request):
    """Makes what a request names in its account, and returns the users' keys, with their secrets.

    {"account"?: ID, "groups"?: [...], "users"?: [...], "roles"?: [...], "rootAccessKey"?: {...}, "securityHub"?: bool, "senders"?: [...]}
    Group: groupName, attachedPolicies? [AWS managed policy's name]
    User:  userName, path?, tags? {key: value}, attachedPolicies?, groups? [name], createDate?, accessKeys?
    Key:   accessKeyId? (20 characters), status?, createDate?, lastUsedDate?, serviceName?, region?
    Role:  roleName, path?, trust (a policy), policy? (what it may do; anything without it), maxSessionSeconds?
    Sender: a mail address or domain that SES has verified.
    Dates are RFC 3339. A user, group or role that exists already is replaced. The quota of two keys is not applied.
    """
    account_id = request.get("account") or ACCOUNT_ID
    backend = iam(account_id)
    for g in request.get("groups") or []:
        backend.groups.pop(g["groupName"], None)
        group = backend.create_group(g["groupName"])
        for policy in g.get("attachedPolicies") or []:
            backend.attach_group_policy(aws_policy(backend, policy), group.name)
    made = {u["userName"]: make_user(backend, u) for u in request.get("users") or []}
    for r in request.get("roles") or []:
        for role_id, role in list(backend.roles.items()):
            if role.name == r["roleName"]:
                del backend.roles[role_id]
        seconds = str(r.get("maxSessionSeconds") or 3600)
        role = backend.create_role(r["roleName"], json.dumps(r["trust"]), r.get("path") or "/", None, "", [], seconds)
        if r.get("policy"):
            backend.put_role_policy(role.name, "Seeded", json.dumps(r["policy"]))
    if "rootAccessKey" in request:
        root = request["rootAccessKey"]
        backend.root_access_key = make_key(account_id, None, root) if root else None
        backend.account_summary._account_access_keys_present = 1 if root else 0
    if "securityHub" in request:
        from moto.securityhub.models import securityhub_backends

        for hub in everywhere(securityhub_backends[account_id]):
            hub.enabled = request["securityHub"]
    for sender in request.get("senders") or []:
        from moto.ses.models import ses_backends

        for ses in everywhere(ses_backends[account_id]):
            ses.create_email_identity_v2(sender, None, None, None)
    return {"users": made}


def everywhere(backends):
    """The backends of an account in all Regions; moto makes them when they are asked for."""
    return [backends[region] for region in backends.regions]


def make_user(backend, u):
    from moto.iam.models import User

    name = u["userName"]
    old = backend.users.pop(name, None)
    for key in old.access_keys if old else []:
        backend.access_keys.pop(key.access_key_id, None)
    user = User(backend.account_id, "us-east-1", name, u.get("path") or "/")
    user.create_date = moment(u.get("createDate")) or user.create_date
    backend.tagger.delete_all_tags_for_resource(user.arn)
    backend.tagger.tag_resource(user.arn, [{"Key": k, "Value": v} for k, v in (u.get("tags") or {}).items()])
    backend.users[name] = user
    for group in backend.groups.values():
        group.users = [member for member in group.users if member is not old]
    for group in u.get("groups") or []:
        backend.add_user_to_group(group, name)
    for policy in u.get("attachedPolicies") or []:
        backend.attach_user_policy(aws_policy(backend, policy), name)
    for k in u.get("accessKeys") or []:
        key = make_key(backend.account_id, name, k)
        user.access_keys.append(key)
        backend.access_keys[key.access_key_id] = key
    return [{"accessKeyId": key.access_key_id, "secretAccessKey": key.secret_access_key} for key in user.access_keys]


def make_key(account_id, user_name, k):
    from moto.iam.models import AccessKey, AccessKeyLastUsed

    key = AccessKey(user_name, "AKIA", account_id, k.get("status") or "Active")
    key.access_key_id = k.get("accessKeyId") or key.access_key_id
    key.create_date = moment(k.get("createDate")) or key.create_date
    used = moment(k.get("lastUsedDate"))
    if used:
        key.last_used = AccessKeyLastUsed(used, k.get("serviceName") or "s3", k.get("region") or "us-east-1")
    return key


def organization(request):
    """Makes an organization, or makes it anew: {"managementAccount": ID, "accounts": [...], "administrators"?: [ID], "resourcePolicy"?: policy}

    Account: account (ID), name?, state? (ACTIVE when left out; null: AWS says none)
    """
    from moto.organizations import utils
    from moto.organizations.models import FakeDelegatedAdministrator, organizations_backends

    management = request["managementAccount"]
    backend = organizations_backends[management]["aws"]
    members = organizations_backends.master_accounts
    for account_id in [a for a, (owner, _) in members.items() if owner == management]:
        del members[account_id]
    members.pop(management, None)
    backend._reset()
    backend.create_organization("us-east-1", FeatureSet="ALL")
    random_id = utils.make_random_account_id
    try:
        for a in request["accounts"]:
            if a["account"] != management:
                left = management_of(a["account"])  # one account is in one organization
                if left:
                    left.accounts = [known for known in left.accounts if known.id != a["account"]]
                utils.make_random_account_id = lambda: a["account"]
                backend.create_account(AccountName=a.get("name") or a["account"], Email=f"{a['account']}@example.com")
            member = backend.get_account_by_id(a["account"])
            member.name = a.get("name") or member.name
            member.state = a.get("state", "ACTIVE")
    finally:
        utils.make_random_account_id = random_id
    backend.admins = [FakeDelegatedAdministrator(backend.get_account_by_id(a)) for a in request.get("administrators") or []]
    policy = request.get("resourcePolicy")
    backend.resource_policy = json.dumps(policy) if policy else None
    return {"id": backend.org.id}


def let_pass(request):
    """{"seconds": n, "account"?: ID}: every user and key, of all accounts or one, becomes that much older, and so does every last use."""
    from moto.iam.models import AccessKeyLastUsed, iam_backends

    passed = timedelta(seconds=request["seconds"])
    for account_id in [request["account"]] if request.get("account") else list(iam_backends):
        backend = iam(account_id)
        for user in list(backend.users.values()):
            user.create_date -= passed
        for key in list(backend.access_keys.values()):
            key.create_date -= passed
            if key.last_used:
                key.last_used = AccessKeyLastUsed(key.last_used.timestamp - passed, key.last_used.service, key.last_used.region)
    return {}


def mails(request):
    """{"account"?: ID, "forget"?: bool} -> {"mails": [{from, to, subject, text, html, raw}]}, in the order they were sent; forget empties the outbox."""
    from moto.ses.models import ses_backends

    sent = []
    for ses in list(ses_backends[request.get("account") or ACCOUNT_ID].values()):
        for m in ses.sent_messages:
            to = m.destinations if isinstance(m.destinations, list) else [a for kind in m.destinations.values() for a in kind]
            simple = getattr(m, "simple", {})
            body = simple.get("Body", {})
            sent.append({
                "from": m.source,
                "to": to,
                "subject": simple.get("Subject", {}).get("Data"),
                "text": body.get("Text", {}).get("Data"),
                "html": body.get("Html", {}).get("Data"),
                "raw": getattr(m, "raw_data", None),
            })
        if request.get("forget"):
            ses.sent_messages = []
    return {"mails": sent}


def aws_policy(backend, name):
    """The ARN of an AWS managed policy of this name; moto loads the real ones only on demand, and their text does not matter here."""
    from moto.iam.models import AWSManagedPolicy

    arn = f"arn:aws:iam::aws:policy/{name}"
    if arn not in backend.managed_policies:
        made = "2020-08-11T18:04:24+00:00"
        data = {"DefaultVersionId": "v1", "Path": "/", "Document": {"Version": "2012-10-17", "Statement": []}, "CreateDate": made, "UpdateDate": made}
        backend.managed_policies[arn] = AWSManagedPolicy.from_data(name, backend.account_id, "us-east-1", data)
    return arn


def moment(text):
    """An RFC 3339 date as moto keeps its dates: UTC without a zone."""
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).replace(tzinfo=None)
