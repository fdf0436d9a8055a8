// The token that this tab uses, and the rights that it gives. The server decides; this page only shows them.

/** The claims of a JSON Web Token, without verification. Null if it is no token. */
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
    return true; // the server has to decide
  }
}

export class Identity {
  #storage;

  /** `storage` is like sessionStorage: what it holds is lost when the tab is closed. */
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

  /** The only name that may be used for posts. Null if any name may be used. */
  get author() {
    const claims = this.claims;
    return claims === null || claims.post_as === '*' ? null : (claims.sub ?? null);
  }

  /** Whether the token gives the right 'read', 'post' or 'manage' in a channel. True without a token. */
  may(right, id) {
    const claims = this.claims;
    if (claims === null) return true;
    const channels = right === 'manage' ? undefined : claims.channels;
    const patterns = [...(claims[right] ?? []), ...(channels ?? [])];
    const open = right !== 'manage' && claims.read === undefined && claims.post === undefined && claims.channels === undefined;
    return open || patterns.some((pattern) => matches(String(pattern), id));
  }

  /** [right, patterns] for each right that the token gives, to be shown. */
  rights() {
    const claims = this.claims ?? {};
    return ['read', 'post', 'manage', 'channels'].filter((name) => Array.isArray(claims[name])).map((name) => [name, claims[name].join(', ') || 'none']);
  }
}
