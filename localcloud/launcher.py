"""Starts one of the two emulators of the local cloud: `launcher.py moto PORT` or `launcher.py ministack PORT`.

moto serves IAM, STS, Secrets Manager, Organizations, Security Hub and SES, ministack everything else. Whoever starts
them listens on the port already, and hands the socket over as file descriptor 3. Both end when standard input ends:
whoever started them holds the other end, so that no emulator outlives its command, not even one that was killed.

To moto this adds what accounts need before a key's life can be watched in them (POST, JSON):

/localcloud/seed          users and keys with chosen dates, statuses and last use, groups, roles (see seed.py)
/localcloud/organization  an organization of accounts with chosen states (see seed.py)
/localcloud/pass          lets time pass: moves all dates of users and keys into the past
/localcloud/mails         the mails that SES sent
/localcloud/authenticate  answers for the caller of a request to the other emulator (see `authenticate`)

and both are corrected where they differ from AWS in a way that iamkeys would notice: moto by correct_moto.py and
access.py, which decides what policies refuse, ministack by correct_ministack.py. Each correction says how AWS differs.
"""

import asyncio
import io
import json
import os
import sys
import threading

LISTENER = 3  # the socket to serve


def serve_moto(port):
    import access
    import correct_moto
    import seed
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    correct_moto.everything()
    own = {
        "/localcloud/seed": seed.seed,
        "/localcloud/organization": seed.organization,
        "/localcloud/pass": seed.let_pass,
        "/localcloud/mails": seed.mails,
        "/localcloud/authenticate": access.authenticate,
    }
    application = Application(DomainDispatcherApplication(create_backend_app), own, access.refusal)
    make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler, fd=LISTENER).serve_forever()


def serve_ministack(port):
    os.environ["GATEWAY_PORT"] = str(port)  # part of the URLs that it returns; read at its import
    import correct_ministack
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    correct_ministack.everything()
    # As its own main does, which knows of no socket but the one that it opens.
    config = Config()
    config.bind = [f"fd://{LISTENER}"]
    config.keep_alive_timeout = 75
    asyncio.run(serve(app, config))


class Application:
    """moto's WSGI application behind IAM's first questions: whose key signed this, and does a policy refuse it?

    It serves one request at a time: moto lists its users and keys without a lock, and fails when one is made meanwhile.
    """

    def __init__(self, moto, own, refusal):
        self.moto = moto
        self.own = own  # what /localcloud/... serves, by path
        self.refusal = refusal
        self.turn = threading.Lock()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self.turn:
            own = self.own.get(environ["PATH_INFO"])
            if own:
                return self.answer(body, start_response, own)
            refused = self.refusal(environ, body)
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
        """The refusal in the words of the service's protocol: query (IAM, STS) or JSON (all others)."""
        if environ.get("HTTP_X_AMZ_TARGET") or not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            code = {
                "InvalidClientTokenId": "UnrecognizedClientException",
                "SignatureDoesNotMatch": "InvalidSignatureException",
                "AccessDenied": "AccessDeniedException",
            }[code]
            status, kind = "403 Forbidden", "application/json"
            if environ.get("HTTP_X_AMZ_TARGET"):
                status, kind = "400 Bad Request", "application/x-amz-json-1.1"
            data = json.dumps({"__type": code, "message": message})
        else:
            from xml.sax.saxutils import escape

            status, kind = "400 Bad Request" if code == "ValidationError" else "403 Forbidden", "text/xml"
            data = (
                f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
                f"<Message>{escape(message)}</Message></Error><RequestId>localcloud</RequestId></ErrorResponse>"
            )
        data = data.encode()
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(data))), ("X-Amzn-ErrorType", code)])
        return [data]


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
