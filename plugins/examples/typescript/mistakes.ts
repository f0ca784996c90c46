// Unintended failures of TypeScript code. The host's tests check the error message of each.

class StockError extends Error {
  override name = 'StockError';
}

export function makeMistake(name: string): never {
  switch (name) {
    case 'type-error':
      return (undefined as never)['nothing'];
    case 'own-error':
      throw new StockError('no bolts left');
    case 'wrong-type':
      return 42 as never;
    default:
      throw new Error(`no mistake is called ${name}`);
  }
}
