/** The texts that a .onnx file carries beside its graph (`metadata_props`), without a library of protocol buffers. */

/** Texts by key; empty if the file is none of this form. */
export function onnxMetadata(file: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  for (const { field, bytes } of fieldsOf(file)) {
    if (field !== 14 || bytes === undefined) continue; // ModelProto.metadata_props: StringStringEntryProto
    const entry = [...fieldsOf(bytes)];
    const text = (number: number) => {
      const value = entry.find(({ field }) => field === number)?.bytes;
      return value === undefined ? '' : Buffer.from(value).toString('utf8');
    };
    found.set(text(1), text(2));
  }
  return found;
}

/** Fields of a message; those of bytes with them. Ends where the bytes are no message. */
function* fieldsOf(message: Uint8Array): Generator<{ field: number; bytes?: Uint8Array }> {
  let at = 0;
  const varint = (): number | undefined => {
    let value = 0;
    for (let shift = 0; shift < 64; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  };
  while (at < message.length) {
    const key = varint();
    if (key === undefined) return;
    const [field, wire] = [Math.floor(key / 8), key % 8];
    if (wire === 0) {
      if (varint() === undefined) return;
      yield { field };
    } else if (wire === 2) {
      const length = varint();
      if (length === undefined || at + length > message.length) return;
      yield { field, bytes: message.subarray(at, at + length) };
      at += length;
    } else if (wire === 1 || wire === 5) {
      at += wire === 1 ? 8 : 4;
      yield { field };
    } else return;
  }
}

/** Labels as Ultralytics writes them: `{0: 'person', 1: "bicycle"}`. */
export function ultralyticsNames(text: string | undefined): string[] | undefined {
  const entries = [...(text ?? '').matchAll(/(\d+)\s*:\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")/g)];
  if (entries.length === 0) return undefined;
  const names: string[] = [];
  for (const [, number, single, double] of entries)
    names[Number(number)] = (single ?? double ?? '').replace(/\\(.)/g, '$1');
  return Array.from(names, (name, i) => name ?? `class ${i}`);
}
