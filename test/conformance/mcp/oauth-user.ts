/**
 * A user who consents to everything, for the suite's scenarios with OAuth: the product hands its requests to upstream servers through this, as it will
 * through whatever keeps real consents.
 */

import {
  auth,
  computeScopeUnion,
  extractWWWAuthenticateParams,
  type FetchLike,
  isStrictScopeSuperset,
  type OAuthClientMetadata,
  type OAuthClientProvider,
  type StoredOAuthClientInformation,
  type StoredOAuthTokens,
} from "@modelcontextprotocol/client";

const redirectUrl = "http://localhost:3000/callback";
/** Where a client describes itself to servers that take its address for its id. */
const metadataUrl = "https://conformance-test.local/client-metadata.json";
/** Of one request; a server that asks again and again for more is not followed. */
const mostTries = 3;

export interface Registered {
  client_id?: string;
  client_secret?: string;
  issuer?: string;
}

/** Wraps what sends requests to `serverUrl`. `registered`: the client is known to the server already. */
export function withOAuth(serverUrl: string, registered: Registered): (next: FetchLike) => FetchLike {
  const user = new OAuthUser(registered);
  return (next) => {
    const send: FetchLike = (input, init) => {
      const headers = new Headers(init?.headers);
      const tokens = user.tokens();
      if (tokens) headers.set("authorization", `Bearer ${tokens.access_token}`);
      return next(input, { ...init, headers });
    };
    return async (input, init) => {
      let response = await send(input, init);
      for (let tries = 1; tries < mostTries && (response.status === 401 || response.status === 403); tries++) {
        const challenge = extractWWWAuthenticateParams(response);
        if (response.status === 403 && challenge.error !== "insufficient_scope") break;
        await response.text();
        await user.authorize({ serverUrl, ...challenge, fetchFn: next });
        response = await send(input, init);
      }
      return response;
    };
  };
}

class OAuthUser implements OAuthClientProvider {
  readonly redirectUrl: string = redirectUrl;
  readonly clientMetadataUrl: string = metadataUrl;
  readonly clientMetadata: OAuthClientMetadata = {
    client_name: "switchyard-conformance",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
  };
  #client: StoredOAuthClientInformation | undefined;
  #tokens: StoredOAuthTokens | undefined;
  #verifier = "";
  #answer: URLSearchParams | undefined;
  #scope: string | undefined;

  constructor({ client_id, client_secret, issuer }: Registered) {
    if (client_id !== undefined) this.#client = { client_id, ...(client_secret && { client_secret }), ...(issuer && { issuer }) };
  }

  clientInformation(): StoredOAuthClientInformation | undefined {
    return this.#client;
  }

  saveClientInformation(client: StoredOAuthClientInformation): void {
    this.#client = client;
  }

  tokens(): StoredOAuthTokens | undefined {
    return this.#tokens;
  }

  saveTokens(tokens: StoredOAuthTokens): void {
    this.#tokens = tokens;
  }

  codeVerifier(): string {
    return this.#verifier;
  }

  saveCodeVerifier(verifier: string): void {
    this.#verifier = verifier;
  }

  invalidateCredentials(scope: "all" | "client" | "tokens" | "verifier" | "discovery"): void {
    if (scope === "all" || scope === "client") this.#client = undefined;
    if (scope === "all" || scope === "tokens") this.#tokens = undefined;
  }

  /** Consents at once; the answer is in the address that a browser would be sent to. */
  async redirectToAuthorization(address: URL): Promise<void> {
    const response = await fetch(address, { redirect: "manual" });
    const location = response.headers.get("location");
    if (location === null) throw new Error(`the authorization server sent nobody back, status ${response.status}`);
    this.#answer = new URL(location, redirectUrl).searchParams;
  }

  #taken(): { code?: string; iss?: string } {
    return Object.fromEntries(this.#answer ?? []);
  }

  async authorize(of: { serverUrl: string; resourceMetadataUrl?: URL; scope?: string; fetchFn: FetchLike }): Promise<void> {
    const { serverUrl, resourceMetadataUrl, fetchFn } = of;
    const given = this.#tokens?.scope;
    const scope = computeScopeUnion(this.#scope, given, of.scope);
    this.#scope = scope;
    const options = { serverUrl, fetchFn, ...(resourceMetadataUrl && { resourceMetadataUrl }), ...(scope !== undefined && { scope }) };
    this.#answer = undefined;
    const forceReauthorization = isStrictScopeSuperset(scope, given);
    if ((await auth(this, { ...options, forceReauthorization })) === "AUTHORIZED") return;
    const { code, iss } = this.#taken();
    if (!code) throw new Error("the authorization server gave no code");
    await auth(this, { ...options, authorizationCode: code, ...(iss && { iss }) });
  }
}
