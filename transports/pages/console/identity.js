// The token that this tab uses, and what it says that its bearer may do. The server decides; this only shows it.

/** The claims of a JSON Web Token, unverified, or null where it is not one. */
export function claimsOf(token) {
  try {
    const [, payload] = token.split('.');
    const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (character) => character.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims !== null && typeof claims === 'object' ? claims : null;
  } catch {
    return null;
  }
}

/** Whether an fnmatch pattern such as `team-*` matches a channel's id. */
function matches(pattern, id) {
  let source = '';
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern[at];
    const end = character === '[' ? pattern.indexOf(']', at + 2) : -1;
    if (character === '*') source += '.*';
    else if (character === '?') source += '.';
    else if (end > 0) {
      source += `[${pattern.slice(at + 1, end).replace(/^!/, '^').replaceAll('\\', '\\\\')}]`;
      at = end;
    } else source += character.replace(/[\\^$.|?*+()[\]{}/-]/g, '\\$&');
  }
  try {
    return new RegExp(`^${source}$`, 'su').test(id);
  } catch {
    return true; // let the server say
  }
}

export class Identity {
  #storage;

  /** `storage` is like sessionStorage: what is kept goes with the tab. */
  constructor(storage) {
    this.#storage = storage;
  }

  get token() {
    return this.#storage.token || null;
  }

  set token(token) {
    if (token) this.#storage.token = token;
    else delete this.#storage.token;
  }

  get claims() {
    return this.token === null ? null : claimsOf(this.token);
  }

  /** The only name to post under, or null where any may be used. */
  get author() {
    const claims = this.claims;
    return claims === null || claims.post_as === '*' ? null : (claims.sub ?? null);
  }

  /** Whether the token says that this may be done in a channel: 'read', 'post' or 'manage'. True without a token. */
  may(right, id) {
    const claims = this.claims;
    if (claims === null) return true;
    const channels = right === 'manage' ? undefined : claims.channels;
    const patterns = [...(claims[right] ?? []), ...(channels ?? [])];
    const open = right !== 'manage' && claims.read === undefined && claims.post === undefined && claims.channels === undefined;
    return open || patterns.some((pattern) => matches(String(pattern), id));
  }

  /** [right, patterns] of what the token names, for people. */
  rights() {
    const claims = this.claims ?? {};
    return ['read', 'post', 'manage', 'channels'].filter((name) => Array.isArray(claims[name])).map((name) => [name, claims[name].join(', ') || 'none']);
  }
}
