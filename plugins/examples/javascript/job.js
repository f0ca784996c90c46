// A job in JavaScript: three items that end in three ways.
import { publish } from 'tidemill:job/events@0.1.0';
import { get } from 'wasi:config/store@0.2.0-rc.1';
import { open } from 'wasi:keyvalue/store@0.2.0-draft';
import { log } from 'wasi:logging/logging@0.1.0-draft';
import { makeMistake } from './mistakes.js';

const description = {
  name: 'example-javascript',
  version: '0.1.0',
  summary: 'Three items that end in three ways, in JavaScript.',
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
  describe() {
    return JSON.stringify(description);
  },

  async discover(_request) {
    const mistake = get('discover_mistake');
    if (mistake) await makeMistake(mistake);
    const also = (get('also') ?? '').split(',').filter(Boolean);
    const items = ['good', 'flaky', 'bad', ...also].map((key) => ({ key, payload: '' }));
    return { items, next: undefined };
  },

  async process(item) {
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

const resolved = (note) => ({ tag: 'resolved', val: note });
const failure = (tag, code, message) => ({ tag, val: { code, message } });

/** Calls a service, counts in the key-value store, and publishes an event. */
async function good(item) {
  const answer = await fetch(get('service'));
  const text = await answer.text();
  const bucket = open('default');
  const stored = bucket.get('count');
  const count = stored ? Number(new TextDecoder().decode(stored)) + 1 : 1;
  bucket.set('count', new TextEncoder().encode(String(count)));
  publish('ExampleDone', item.key, JSON.stringify({ count }));
  return resolved(`the service answered ${answer.status} ${text}`);
}

function clock() {
  const before = performance.now();
  const now = Date.now();
  if (performance.now() < before) throw failure('permanent', 'clock', 'the monotonic clock goes backwards');
  return resolved(`at ${now}`);
}
