// A job in TypeScript: three items that end in three ways. It calls `wasi:http` directly; the JavaScript example
// uses `fetch`.
import { publish } from 'tidemill:job/events@0.1.0';
import type { Failure, Item, Outcome, Page, PageRequest } from 'tidemill:job/types@0.1.0';
import { get } from 'wasi:config/store@0.2.0-rc.1';
import { handle } from 'wasi:http/outgoing-handler@0.2.12';
import { Fields, OutgoingRequest } from 'wasi:http/types@0.2.12';
import { open } from 'wasi:keyvalue/store@0.2.0-draft';
import { log } from 'wasi:logging/logging@0.1.0-draft';
import { makeMistake } from './mistakes.js';

const description = {
  name: 'example-typescript',
  version: '0.1.0',
  summary: 'Three items that end in three ways, in TypeScript.',
  config: {
    type: 'object',
    properties: {
      service: { type: 'string' },
      fail_times: { type: 'integer', minimum: 0 },
      also: { type: 'string' },
      discover_mistake: { type: 'string' },
    },
    required: ['service'],
    additionalProperties: false,
  },
  topics: ['ExampleDone'],
  capabilities: ['keyvalue'],
};

export const job = {
  describe(): string {
    return JSON.stringify(description);
  },

  discover(_request: PageRequest): Page {
    const mistake = get('discover_mistake');
    if (mistake) makeMistake(mistake);
    const also = (get('also') ?? '').split(',').filter(Boolean);
    const items = ['good', 'flaky', 'bad', ...also].map((key) => ({ key, payload: '' }));
    return { items, next: undefined };
  },

  process(item: Item): Outcome {
    log('info', 'example', `${item.key}, attempt ${item.attempt}`);
    switch (item.key) {
      case 'good':
        return good(item);
      case 'flaky':
        // A thrown failure of the contract is an answer. Any other thrown value is a crash, and the
        // host reports its text.
        if (item.attempt <= Number(get('fail_times') ?? 2)) {
          throw failure('transient', 'too-early', `attempt ${item.attempt} is too early`);
        }
        return resolved(`at attempt ${item.attempt}`);
      case 'bad':
        throw failure('permanent', 'never', 'this item never works');
      case 'clock':
        return clock();
      default:
        return makeMistake(item.key);
    }
  },
};

const resolved = (note: string): Outcome => ({ tag: 'resolved', val: note });
const failure = (tag: 'transient' | 'permanent', code: string, message: string): Failure => ({
  tag,
  val: { code, message },
});

/** Calls a service, counts in the key-value store, and publishes an event. */
function good(item: Item): Outcome {
  const answer = fetchText(get('service') ?? '');
  const bucket = open('default');
  const stored = bucket.get('count');
  const count = stored ? Number(new TextDecoder().decode(stored)) + 1 : 1;
  bucket.set('count', new TextEncoder().encode(String(count)));
  publish('ExampleDone', item.key, JSON.stringify({ count }));
  return resolved(`the service answered ${answer.status} ${answer.text}`);
}

function clock(): Outcome {
  const before = performance.now();
  const now = Date.now();
  if (performance.now() < before) throw failure('permanent', 'clock', 'the monotonic clock goes backwards');
  return resolved(`at ${now}`);
}

function fetchText(address: string): { status: number; text: string } {
  const url = new URL(address);
  const request = new OutgoingRequest(new Fields());
  request.setScheme({ tag: url.protocol === 'http:' ? 'HTTP' : 'HTTPS' });
  request.setAuthority(url.host);
  request.setPathWithQuery(url.pathname + url.search);
  const future = handle(request, undefined);
  future.subscribe().block();
  const answer = future.get();
  if (answer?.tag !== 'ok' || answer.val.tag !== 'ok') {
    throw failure('transient', 'http', JSON.stringify(answer));
  }
  const response = answer.val.val;
  const stream = response.consume().stream();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    let bytes: Uint8Array;
    try {
      bytes = stream.blockingRead(65536n);
    } catch {
      return { status: response.status(), text };
    }
    text += decoder.decode(bytes, { stream: true });
  }
}
