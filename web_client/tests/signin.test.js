import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { SignIn } from '../protocol/signin.js';

const CONFIG = { issuer: 'https://id.example/t', clientId: 'page' };
const encode = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');
const idToken = (claims) => `${encode({ alg: 'ES256' })}.${encode(claims)}.c2ln`;

/** A provider that answers the token endpoint with `redeem(form)`. */
function setUp(redeem, now = () => 1_000_000) {
  const values = new Map();
  const storage = {
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => values.set(key, value),
    removeItem: (key) => values.delete(key),
  };
  const forms = [];
  const fetch = async (url, options) => {
    if (String(url).endsWith('/.well-known/openid-configuration')) {
      const { issuer } = CONFIG;
      return Response.json({
        issuer,
        authorization_endpoint: `${issuer}/authorize`,
        token_endpoint: `${issuer}/token`,
      });
    }
    const form = Object.fromEntries(options.body);
    forms.push(form);
    return redeem(form);
  };
  return { signIn: new SignIn(CONFIG, { storage, fetch, now }), forms };
}

const begin = async (signIn) => {
  const address = new URL(await signIn.begin({ redirectUri: 'https://p.example/', returnTo: '/m/1' }));
  return address.searchParams;
};
const good = (nonce, more = {}) => ({ iss: CONFIG.issuer, aud: 'page', exp: 2000, nonce, ...more });

test('the request carries PKCE, state and nonce, and the code is redeemed with the verifier', async () => {
  let query;
  const { signIn, forms } = setUp(() =>
    Response.json({ id_token: idToken(good(query.get('nonce'))), refresh_token: 'r' }),
  );
  query = await begin(signIn);
  assert.equal(query.get('code_challenge_method'), 'S256');
  assert.equal(query.get('scope'), 'openid profile email offline_access');
  const returnTo = await signIn.finish(new URLSearchParams({ code: 'c', state: query.get('state') }));
  assert.equal(returnTo, '/m/1');
  const challenge = createHash('sha256').update(forms[0].code_verifier).digest('base64url');
  assert.equal(challenge, query.get('code_challenge'));
  assert.ok(signIn.isSignedIn);
});

test('a redirect with another state is refused', async () => {
  const { signIn, forms } = setUp(() => Response.json({}));
  await begin(signIn);
  await assert.rejects(signIn.finish(new URLSearchParams({ code: 'c', state: 'x' })), { code: 'sign-in-failed' });
  assert.deepEqual(forms, []);
});

for (const [what, claims] of [
  ['nonce', { nonce: 'x' }],
  ['audience', { aud: 'other' }],
  ['issuer', { iss: 'https://evil.example' }],
]) {
  test(`a token with another ${what} is refused`, async () => {
    let query;
    const { signIn } = setUp(() => Response.json({ id_token: idToken(good(query.get('nonce'), claims)) }));
    query = await begin(signIn);
    const redirect = new URLSearchParams({ code: 'c', state: query.get('state') });
    await assert.rejects(signIn.finish(redirect), { code: 'sign-in-failed' });
    assert.equal(signIn.isSignedIn, false);
  });
}

async function signedIn(redeemRefresh) {
  let time = 1_000_000;
  let query;
  const made = setUp(
    (form) =>
      form.grant_type === 'refresh_token'
        ? redeemRefresh(form)
        : Response.json({ id_token: idToken(good(query.get('nonce'))), refresh_token: 'r1' }),
    () => time,
  );
  query = await begin(made.signIn);
  await made.signIn.finish(new URLSearchParams({ code: 'c', state: query.get('state') }));
  return { ...made, later: () => (time = 1_950_000) };
}

test('a token is refreshed before it ends, once for many callers', async () => {
  const next = idToken(good('', { exp: 9000 }));
  const { signIn, forms, later } = await signedIn(() => Response.json({ id_token: next }));
  later();
  assert.deepEqual(await Promise.all([signIn.token(), signIn.token()]), [next, next]);
  assert.equal(forms.filter(({ grant_type }) => grant_type === 'refresh_token').length, 1);
});

test('a refused refresh signs out, a silent provider does not', async () => {
  const refused = await signedIn(() => Response.json({ error: 'invalid_grant' }, { status: 400 }));
  refused.later();
  await assert.rejects(refused.signIn.token(), { code: 'unauthenticated' });
  assert.equal(refused.signIn.isSignedIn, false);
  const silent = await signedIn(() => {
    throw new TypeError('away');
  });
  silent.later();
  await assert.rejects(silent.signIn.token(), { code: 'network' });
  assert.equal(silent.signIn.isSignedIn, true);
});
