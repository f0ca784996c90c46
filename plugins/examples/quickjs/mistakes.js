// Unintended failures of JavaScript code. The host's tests check the error message of each.

class StockError extends Error {
  constructor(message) {
    super(message);
    this.name = 'StockError';
  }
}

export function makeMistake(name) {
  switch (name) {
    case 'type-error':
      return undefined.nothing;
    case 'reference-error':
      return bolts;
    case 'own-error':
      throw new StockError('no bolts left');
    case 'two-lines':
      throw new Error('first line\nsecond line');
    case 'cause':
      throw new Error('cannot order', { cause: new StockError('no bolts left') });
    case 'text':
      throw 'no bolts left';
    case 'nothing':
      throw undefined;
    case 'object':
      throw { problem: 'no bolts left' };
    case 'json':
      return JSON.parse('{"bolts":');
    case 'recursion':
      return (function again() {
        return again() + 1;
      })();
    case 'wrong-type':
      return 42;
    default:
      throw new Error(`no mistake is called ${name}`);
  }
}
