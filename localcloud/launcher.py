"""Starts one of the two emulators of the local cloud: `launcher.py moto PORT` or `launcher.py ministack PORT`.

moto serves IAM, STS and Secrets Manager, ministack everything else. Whoever starts them listens on the port already,
and hands the socket over as file descriptor 3. Both end when standard input ends: whoever started them holds the other
end, so that no emulator outlives its command, not even one that was killed.

To moto this adds what an account needs before a key's life can be watched in it:

POST /localcloud/seed          users and keys with chosen create dates, statuses and last use (JSON, see `seed`)
POST /localcloud/pass          lets time pass: moves all dates of users and keys into the past
POST /localcloud/authenticate  answers for the caller of a request to the other emulator (see `refusal`)

and it corrects moto where it differs from AWS in a way that iamkeys would notice; each patch says how.
"""

import asyncio
import io
import json
import os
import sys
import threading
from datetime import datetime, timedelta, timezone

ACCOUNT_ID = "123456789012"
REPORT_TIME = "%Y-%m-%dT%H:%M:%S+00:00"
LISTENER = 3  # the socket to serve


def serve_moto(port):
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    correct_iam()
    correct_secrets_manager()

    application = Application(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler, fd=LISTENER).serve_forever()


def serve_ministack(port):
    os.environ["GATEWAY_PORT"] = str(port)  # part of the URLs that it returns; read at its import
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    # As its own main does, which knows of no socket but the one that it opens.
    config = Config()
    config.bind = [f"fd://{LISTENER}"]
    config.keep_alive_timeout = 75
    asyncio.run(serve(app, config))


def account():
    from moto.iam.models import iam_backends

    return iam_backends[ACCOUNT_ID]["aws"]


class Application:
    """moto's WSGI application behind IAM's first question: whose key signed this?

    It serves one request at a time: moto lists its users and keys without a lock, and fails when one is made meanwhile.
    """

    def __init__(self, moto):
        self.moto = moto
        self.turn = threading.Lock()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self.turn:
            return self.route(environ, body, start_response)

    def route(self, environ, body, start_response):
        path = environ["PATH_INFO"]
        if path == "/localcloud/seed":
            return self.answer(body, start_response, seed)
        if path == "/localcloud/pass":
            return self.answer(body, start_response, let_pass)
        if path == "/localcloud/authenticate":
            return self.answer(body, start_response, authenticate)
        refused = refusal(environ.get("HTTP_AUTHORIZATION", "")) or forgery(environ, body)
        if refused:
            return self.refuse(environ, start_response, *refused)
        return self.moto(environ, start_response)

    @staticmethod
    def answer(body, start_response, serve):
        try:
            status, result = "200 OK", serve(json.loads(body))
        except Exception as err:  # told to the caller, who is the only one to see it
            status, result = "400 Bad Request", {"error": f"{type(err).__name__}: {err}"}
        data = json.dumps(result).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
        return [data]

    @staticmethod
    def refuse(environ, start_response, code, message):
        """The refusal in the words of the service's protocol: JSON (Secrets Manager) or query (IAM, STS)."""
        if environ.get("HTTP_X_AMZ_TARGET"):
            code = {"InvalidClientTokenId": "UnrecognizedClientException", "SignatureDoesNotMatch": "InvalidSignatureException"}[code]
            status, kind = "400 Bad Request", "application/x-amz-json-1.1"
            data = json.dumps({"__type": code, "message": message})
        else:
            status, kind = "403 Forbidden", "text/xml"
            data = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
                f"<Message>{message}</Message></Error><RequestId>localcloud</RequestId></ErrorResponse>"
            )
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data)))])
        return [data.encode()]


def signer(authorization):
    """The parts of a user's key in an Authorization header: (key ID, Region, service); None for any other signer.

    Only users' keys begin with AKIA. The placeholder credentials of functions and developers are not questioned.
    """
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    if len(scope) != 5 or not scope[0].startswith("AKIA"):
        return None
    return scope[0], scope[2], scope[3]


def refusal(authorization):
    """(code, message) when the request is signed with a user's key that is deleted or not Active. moto accepts any key."""
    signed = signer(authorization)
    key = account().access_keys.get(signed[0]) if signed else None
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
    auth = SigV4Auth(Credentials(key_id, account().access_keys[key_id].secret_access_key), service, region)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    if signature != authorization.partition("Signature=")[2].partition(",")[0].strip():
        return "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."
    return None


def authenticate(request):
    """{"authorization": "AWS4-HMAC-SHA256 ..."} -> {"code": null or the refusal's}; an accepted use is recorded.

    For requests to the other emulator. Their signature is not verified.
    """
    from moto.iam.models import mark_account_as_visited

    refused = refusal(request["authorization"])
    signed = signer(request["authorization"])
    if signed and not refused:
        mark_account_as_visited(ACCOUNT_ID, signed[0], signed[2], signed[1])
    return {"code": refused[0] if refused else None, "message": refused[1] if refused else None}


def seed(request):
    """Makes the users of {"users": [...]} with their keys, and returns the keys' IDs and secrets by user.

    User: userName, path?, tags? {key: value}, attachedPolicies? [AWS managed policy's name], createDate?, accessKeys?
    Key:  accessKeyId? (20 characters), status?, createDate?, lastUsedDate?, serviceName?, region?
    Dates are RFC 3339. A user who exists already is replaced. The quota of two keys is not applied.
    """
    from moto.iam.models import AccessKey, AccessKeyLastUsed, User

    backend = account()
    made = {}
    for u in request["users"]:
        name = u["userName"]
        old = backend.users.pop(name, None)
        for key in old.access_keys if old else []:
            backend.access_keys.pop(key.access_key_id, None)
        user = User(ACCOUNT_ID, "us-east-1", name, u.get("path") or "/")
        user.create_date = moment(u.get("createDate")) or user.create_date
        backend.tagger.delete_all_tags_for_resource(user.arn)
        backend.tagger.tag_resource(user.arn, [{"Key": k, "Value": v} for k, v in (u.get("tags") or {}).items()])
        backend.users[name] = user
        for policy in u.get("attachedPolicies") or []:
            arn = f"arn:aws:iam::aws:policy/{policy}"
            if arn not in backend.managed_policies:
                backend.managed_policies[arn] = aws_policy(policy)
            backend.attach_user_policy(arn, name)
        made[name] = []
        for k in u.get("accessKeys") or []:
            key = AccessKey(name, "AKIA", ACCOUNT_ID, k.get("status") or "Active")
            key.access_key_id = k.get("accessKeyId") or key.access_key_id
            key.create_date = moment(k.get("createDate")) or key.create_date
            used = moment(k.get("lastUsedDate"))
            if used:
                key.last_used = AccessKeyLastUsed(used, k.get("serviceName") or "s3", k.get("region") or "us-east-1")
            user.access_keys.append(key)
            backend.access_keys[key.access_key_id] = key
            made[name].append({"accessKeyId": key.access_key_id, "secretAccessKey": key.secret_access_key})
    return {"users": made}


def let_pass(request):
    """{"seconds": n}: every user and key becomes that much older, and so does every last use."""
    from moto.iam.models import AccessKeyLastUsed

    passed = timedelta(seconds=request["seconds"])
    backend = account()
    for user in list(backend.users.values()):
        user.create_date -= passed
    for key in list(backend.access_keys.values()):
        key.create_date -= passed
        if key.last_used:
            key.last_used = AccessKeyLastUsed(key.last_used.timestamp - passed, key.last_used.service, key.last_used.region)
    return {}


def aws_policy(name):
    """An AWS managed policy of this name; moto loads the real ones only on demand, and their text does not matter here."""
    from moto.iam.models import AWSManagedPolicy

    made = "2020-08-11T18:04:24+00:00"
    data = {"DefaultVersionId": "v1", "Path": "/", "Document": {"Version": "2012-10-17", "Statement": []}, "CreateDate": made, "UpdateDate": made}
    return AWSManagedPolicy.from_data(name, ACCOUNT_ID, "us-east-1", data)


def moment(text):
    """An RFC 3339 date as moto keeps its dates: UTC without a zone."""
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).replace(tzinfo=None)


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
        root = ["<root_account>", f"arn:aws:iam::{ACCOUNT_ID}:root", made, "not_supported", "no_information"]
        root += ["not_supported"] * 2 + ["true"] + cells(None) * 2 + ["false", "N/A", "false", "N/A"]
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


def end_with_input():
    """Ends this process, and with it its threads, when standard input is closed."""
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    emulator, port = sys.argv[1], int(sys.argv[2])
    threading.Thread(target=end_with_input, daemon=True).start()
    if emulator == "moto":
        serve_moto(port)
    else:
        serve_ministack(port)


if __name__ == "__main__":
    main()
