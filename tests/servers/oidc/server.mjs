// oidc-provider, a certified OpenID provider, at the paths of Microsoft Entra.
// usage: node server.mjs PORT CERT KEY CLIENT_KEY_OUT TTL_SECONDS    (NODE_MODULES: where it is installed)
import fs from "node:fs";
import https from "node:https";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_MODULES}/x.js`);
const { Provider } = await import(require.resolve("oidc-provider"));
const jose = await import(require.resolve("jose"));

const [port, cert, key, clientKeyOut, ttl] = process.argv.slice(2);
const tenant = "ab1f708d-50f6-404c-a006-d71b2ac7a606";
const audience = "https://storage.azure.com";
const scope = `${audience}/.default`;

async function rsa(kid) {
  const pair = await jose.generateKeyPair("RS256", { extractable: true });
  const about = { alg: "RS256", use: "sig", kid };
  return {
    pem: await jose.exportPKCS8(pair.privateKey),
    secret: { ...(await jose.exportJWK(pair.privateKey)), ...about },
    open: { ...(await jose.exportJWK(pair.publicKey)), ...about },
  };
}

const own = await rsa("server");
const federated = await rsa("federated");
fs.writeFileSync(clientKeyOut, federated.pem, { mode: 0o600 });

const client = { grant_types: ["client_credentials"], redirect_uris: [], response_types: [], scope };
const provider = new Provider(`https://sts.windows.net/${tenant}/`, {
  clients: [
    { ...client, client_id: "app", client_secret: "opensesame", token_endpoint_auth_method: "client_secret_post" },
    { ...client, client_id: "pod", token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [federated.open] } },
  ],
  clientAuthMethods: ["client_secret_post", "private_key_jwt"],
  jwks: { keys: [own.secret] },
  scopes: [scope],
  routes: { token: `/${tenant}/oauth2/v2.0/token` },
  assertJwtClientAuthClaimsAndHeader: async () => {},
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope,
        audience,
        accessTokenTTL: Number(ttl),
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  // What Azurite looks for in a token of Microsoft Entra.
  extraTokenClaims: (context, token) => ({
    nbf: Math.floor(Date.now() / 1000) - 5,
    appid: token.clientId,
    oid: "23657296-5cd5-45b0-a809-d972a7f4dfe1",
    tid: tenant,
  }),
});
provider.proxy = true;

https
  .createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, provider.callback())
  .listen(Number(port), "127.0.0.1");
