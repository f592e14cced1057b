"""The providers' own Python libraries as a filter, like oracle.mjs. Their folder is in PYTHONPATH."""

import base64
import hashlib
import hmac
import json
import sys
from datetime import datetime, timezone
from urllib.parse import parse_qs

from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook
from twilio.request_validator import RequestValidator


class Fields(dict):
    """A form with repeated fields, as web frameworks hand it to Twilio's library."""

    def getall(self, name):
        return self[name]


def is_form(request):
    return request["headers"]["content-type"].startswith("application/x-www-form-urlencoded")


def fields(request):
    return Fields(parse_qs(request["body"], keep_blank_values=True))


def sign_slack(request):
    signature = SignatureVerifier(request["secret"]).generate_signature(
        timestamp=str(request["time"]), body=request["body"]
    )
    return {"x-slack-request-timestamp": str(request["time"]), "x-slack-signature": signature}


def sign_standard(request):
    time = datetime.fromtimestamp(request["time"], tz=timezone.utc)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(request["time"]),
        "webhook-signature": Webhook(request["secret"]).sign("msg_1", time, request["body"]),
    }


def verify_standard(request):
    Webhook(request["secret"]).verify(request["body"], request["headers"], json_parse=False)
    return True


def sign_twilio(request):
    url, params = request["url"], fields(request)
    if not is_form(request):
        url, params = f"{url}?bodySHA256={hashlib.sha256(request['body'].encode()).hexdigest()}", {}
    return {"x-twilio-signature": RequestValidator(request["secret"]).compute_signature(url, params), "url": url}


def verify_twilio(request):
    params = fields(request) if is_form(request) else request["body"]
    signature = request["headers"]["x-twilio-signature"]
    return RequestValidator(request["secret"]).validate(request["url"], params, signature)


def mac(request, digest=hashlib.sha256):
    return hmac.new(request["secret"].encode(), request["body"].encode(), digest)


# No library on PyPI or npm covers these three: they are computed as the provider's documentation says, by another
# implementation of HMAC than ours.
def verify_pagerduty(request):
    given = request["headers"]["x-pagerduty-signature"].split(",")
    return any(hmac.compare_digest("v1=" + mac(request).hexdigest(), one) for one in given)


ORACLES = {
    "slack": {
        "sign": sign_slack,
        "verify": lambda request: SignatureVerifier(request["secret"]).is_valid_request(
            request["body"], request["headers"]
        ),
    },
    "standard-webhooks": {"sign": sign_standard, "verify": verify_standard},
    "twilio": {"sign": sign_twilio, "verify": verify_twilio},
    "pagerduty": {
        "sign": lambda request: {"x-pagerduty-signature": "v1=00,v1=" + mac(request).hexdigest()},
        "verify": verify_pagerduty,
    },
    "bitbucket": {
        "sign": lambda request: {"x-hub-signature": "sha256=" + mac(request).hexdigest()},
        "verify": lambda request: hmac.compare_digest(
            "sha256=" + mac(request).hexdigest(), request["headers"]["x-hub-signature"]
        ),
    },
    "shopify": {
        "sign": lambda request: {"x-shopify-hmac-sha256": base64.b64encode(mac(request).digest()).decode()},
    },
}

for line in sys.stdin:
    request = json.loads(line)
    try:
        result = ORACLES[request["oracle"]][request["ask"]](request)
        answer = {"headers": result} if request["ask"] == "sign" else {"valid": result is True}
    except Exception as error:
        answer = {"valid": False, "error": str(error)}
    print(json.dumps(answer), flush=True)
