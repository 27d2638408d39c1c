// oidc-provider, a certified OpenID provider, as issuer of web identities on plain HTTP. Its key comes with a certificate: Ceph
// trusts an issuer by the certificate's thumbprint.
// usage: node issuer.mjs PORT CERT KEY AUDIENCE TTL_SECONDS    (NODE_MODULES: where it is installed)
import fs from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_MODULES}/x.js`);
const { Provider } = await import(require.resolve("oidc-provider"));
const jose = await import(require.resolve("jose"));

const [port, cert, key, audience, ttl] = process.argv.slice(2);
const pem = fs.readFileSync(cert, "utf8").match(/-----BEGIN CERTIFICATE-----([^-]+)-----END/)[1];
const jwk = {
  ...(await jose.exportJWK(await jose.importPKCS8(fs.readFileSync(key, "utf8"), "RS256", { extractable: true }))),
  alg: "RS256",
  use: "sig",
  kid: "issuer",
  x5c: [pem.replace(/\s/g, "")],
};

const provider = new Provider(`http://localhost:${port}`, {
  clients: [
    {
      client_id: "pod",
      client_secret: "the secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: "client_secret_post",
    },
  ],
  jwks: { keys: [jwk] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "",
        audience,
        accessTokenTTL: Number(ttl),
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});

http.createServer(provider.callback()).listen(Number(port), "127.0.0.1");
