// The providers' own JavaScript libraries as a filter: one JSON request a line on standard input, one answer a line.
// Runs with the folder of node_modules as its working directory, from where the packages are found.
import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { parse } from "node:querystring";
import { createInterface } from "node:readline";

import { LinearWebhookClient } from "@linear/sdk/webhooks";
import { sign as signGitHub, verify as verifyGitHub } from "@octokit/webhooks-methods";
import "@shopify/shopify-api/adapters/node";
import { shopifyApi } from "@shopify/shopify-api";
import bolt from "@slack/bolt";
import { Webhook as StandardWebhook } from "standardwebhooks";
import Stripe from "stripe";
import { Webhook as SvixWebhook } from "svix";
import twilio from "twilio";

const stripe = new Stripe("sk_test_unused");
const shopify = (secret) =>
  shopifyApi({
    apiKey: "key",
    apiSecretKey: secret,
    apiVersion: "2025-10",
    hostName: "hooks.example.com",
    isEmbeddedApp: false,
    logger: { log: () => {} },
  });
const isForm = ({ headers }) => headers["content-type"].startsWith("application/x-www-form-urlencoded");
const standard = (Webhook, prefix) => ({
  sign: ({ secret, body, time }) => ({
    [`${prefix}-id`]: "msg_1",
    [`${prefix}-timestamp`]: `${time}`,
    [`${prefix}-signature`]: new Webhook(secret).sign("msg_1", new Date(time * 1000), body),
  }),
  verify: ({ secret, body, headers }) => (new Webhook(secret).verify(body, headers), true),
});

// No library signs with Ed25519 yet: as the specification of Standard Webhooks says, with Node's own implementation.
const standardSeed = (secret) => {
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.from(secret, "base64")]);
  return createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
};
// The schemes of `generic` with public keys, over the body alone.
const asymmetric = (hash, key) => ({
  sign: ({ secret, body }) => ({ "x-signature": sign(hash, Buffer.from(body), { key: secret, ...key }).toString("base64") }),
  verify: ({ secret, body, headers }) =>
    verify(hash, Buffer.from(body), { key: secret, ...key }, Buffer.from(headers["x-signature"], "base64")),
});

// Each `sign` gives headers, each `verify` gives whether; to throw is to refuse.
const oracles = {
  ed25519: asymmetric(null, {}),
  "p256-der": asymmetric("sha256", { dsaEncoding: "der" }),
  "p256-fixed": asymmetric("sha256", { dsaEncoding: "ieee-p1363" }),
  "standard-v1a": {
    sign: ({ secret, body, time }) => {
      const signature = sign(null, Buffer.from(`msg_1.${time}.${body}`), standardSeed(secret)).toString("base64");
      return { "webhook-id": "msg_1", "webhook-timestamp": `${time}`, "webhook-signature": `v1a,${signature}` };
    },
    verify: ({ secret, body, headers }) => {
      const message = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
      const signature = Buffer.from(headers["webhook-signature"].replace("v1a,", ""), "base64");
      return verify(null, Buffer.from(message), createPublicKey(standardSeed(secret)), signature);
    },
  },
  github: {
    sign: async ({ secret, body }) => ({ "x-hub-signature-256": await signGitHub(secret, body) }),
    verify: ({ secret, body, headers }) => verifyGitHub(secret, body, headers["x-hub-signature-256"]),
  },
  linear: {
    verify: ({ secret, body, headers }) =>
      new LinearWebhookClient(secret).verify(Buffer.from(body), headers["linear-signature"]),
  },
  shopify: {
    verify: async ({ secret, body, headers }) => {
      const rawRequest = { headers, method: "POST", url: "/" };
      return (await shopify(secret).webhooks.validate({ rawBody: body, rawRequest })).valid;
    },
  },
  slack: {
    verify: ({ secret, body, headers }) => bolt.isValidSlackRequest({ signingSecret: secret, body, headers }),
  },
  "standard-webhooks": standard(StandardWebhook, "webhook"),
  svix: standard(SvixWebhook, "svix"),
  stripe: {
    sign: ({ secret, body, time }) => ({
      "stripe-signature": stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: time }),
    }),
    verify: ({ secret, body, headers }) =>
      stripe.webhooks.signature.verifyHeader(body, headers["stripe-signature"], secret, 300),
  },
  twilio: {
    // A body that is no form is named by its hash in the URL, which is then all that is signed.
    sign: (request) => {
      const { secret, body, url } = request;
      const params = isForm(request) ? parse(body) : {};
      const hash = createHash("sha256").update(body).digest("hex");
      const signed = isForm(request) ? url : `${url}?bodySHA256=${hash}`;
      return { "x-twilio-signature": twilio.getExpectedTwilioSignature(secret, signed, params), url: signed };
    },
    verify: (request) => {
      const { secret, body, url, headers } = request;
      const signature = headers["x-twilio-signature"];
      return isForm(request)
        ? twilio.validateRequest(secret, signature, url, { ...parse(body) })
        : twilio.validateRequestWithBody(secret, signature, url, body);
    },
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    const result = await oracles[request.oracle][request.ask](request);
    answer = request.ask === "sign" ? { headers: result } : { valid: result === true };
  } catch (error) {
    answer = { valid: false, error: `${error.message}`.split("\n")[0] };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
