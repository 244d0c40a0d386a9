import { native, type OperatorNumber } from './native.js';

export interface Argument {
  name: string;
  /** Such as `Tensor`, `int[]`, `Scalar`, `ScalarType`. */
  kind: string;
  optional: boolean;
  hasDefault: boolean;
  /** The operator writes into it and may return it. */
  written: boolean;
}

export interface Schema {
  arguments: Argument[];
  /** The kinds of the results. */
  results: string[];
}

/** What an operator takes and gives, such as `aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor`. */
export function schemaOf(operator: OperatorNumber): Schema {
  const [, given = '', made = ''] = /^[^(]*\((.*)\) -> (.*)$/.exec(native.schema(operator)) ?? [];
  return {
    arguments: split(given).flatMap((text) => (text === '*' ? [] : [argumentOf(text)])),
    results: split(made.replace(/^\((.*)\)$/, '$1')).map((text) => argumentOf(text).kind),
  };
}

/** At the commas outside of brackets and quotes. */
const split = (list: string): string[] =>
  (list.match(/(?:[^,(["]|\([^)]*\)|\[[^\]]*\]|"[^"]*")+/g) ?? []).map((text) => text.trim());

/** Such as `Tensor(a!)[] self`, `int[2] stride=1`, `SymInt? dim=None`; a result may have no name. */
function argumentOf(text: string): Argument {
  const [alias = ''] = /\([^)]*\)/.exec(text) ?? [];
  const [type = '', name = ''] = text.replace(alias, '').split(/[ =]/);
  const kind = type.replace(/\[\d+\]/, '[]').replace('SymInt', 'int');
  return {
    name,
    kind: kind.replace(/\?$/, ''),
    optional: kind.endsWith('?'),
    hasDefault: text.includes('='),
    written: alias.includes('!'),
  };
}
