import { arch, cpus, platform, totalmem } from 'node:os';
import { Command } from 'commander';
import { understood } from './exit-code.js';
import { print } from './output.js';
import { byteWords, printJson, table } from './shared.js';

interface Finding {
  what: string;
  value: string;
  good: boolean;
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('show what rldf runs on: Node, libtorch, devices, threads, models; and what is wrong')
    .option('--json', 'print as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf doctor
  $ rldf doctor --json`,
    )
    .action(async (options: { json?: boolean }) => {
      const findings = await examine();
      if (options.json)
        printJson(Object.fromEntries(findings.map(({ what, value, good }) => [what, { value, good }])));
      else
        print(`${table(findings.map(({ what, value, good }) => [good ? 'ok' : 'PROBLEM', what, value]))}\n`);
      if (findings.some(({ good }) => !good)) process.exitCode = 2;
    });
}

/**
 * Whether the tests run with this Node and this PyTorch together: each Node with the first PyTorch, and each PyTorch with the first
 * Node. Another pair may well work: it is no problem yet.
 */
export function pairWords(
  node: string,
  torch: string,
  { testedNode, testedTorch }: { testedNode: readonly number[]; testedTorch: readonly string[] },
): string {
  const [major, version] = [Number(node.split('.')[0]), torch.split('+')[0] as string];
  const [[firstNode], [firstTorch]] = [testedNode, testedTorch];
  const isTested =
    (version === firstTorch && testedNode.includes(major)) ||
    (major === firstNode && testedTorch.includes(version));
  const pair = `Node ${node} with PyTorch ${torch}`;
  if (isTested) return `${pair}: tested`;
  return `${pair}: NOT TESTED; tested are Node ${testedNode.join(', ')} with PyTorch ${firstTorch}, and PyTorch ${testedTorch.join(', ')} with Node ${firstNode}. In the repository \`npm run test:node\` and \`test:torch\` try others`;
}

/** Every part is examined by itself, so that one that is broken hides no other. */
async function examine(): Promise<Finding[]> {
  const findings: Finding[] = [];
  const add = async (what: string, look: () => string | Promise<string>) => {
    try {
      findings.push({ what, value: await look(), good: true });
    } catch (error) {
      findings.push({ what, value: (understood(error) as Error).message, good: false });
    }
  };
  await add('node', () => {
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
    if (major < 20 || (major === 20 && minor < 19))
      throw new Error(`${process.versions.node} is too old — install Node 20.19 or newer`);
    return process.versions.node;
  });
  await add(
    'machine',
    () =>
      `${platform()} ${arch()}, ${cpus().length} x ${cpus()[0]?.model.trim() ?? 'CPU'}, ${byteWords(totalmem())} memory`,
  );
  await add('libtorch', async () => {
    const { torchVersion } = await import('@rldf/torch');
    return `${torchVersion()} at ${(await libtorchPath()) ?? 'an unknown path'}`;
  });
  await add('pair', async () => {
    const [{ torchVersion }, tested] = await Promise.all([
      import('@rldf/torch'),
      import('@rldf/torch/setup'),
    ]);
    return pairWords(process.versions.node, torchVersion(), tested);
  });
  await add('devices', async () => (await import('@rldf/torch')).availableDevices().join(', '));
  await add('threads', async () => String((await import('@rldf/torch')).threads()));
  await add('pictures', async () => {
    const { default: sharp } = await import('sharp');
    return `sharp ${sharp.versions.sharp} with libvips ${sharp.versions.vips}`;
  });
  await add('models', async () => {
    const { listModels } = await import('@rldf/common/instruments/models');
    const models = listModels();
    if (!models.some(({ kind }) => kind === 'text-to-image'))
      throw new Error(
        'no text-to-image model is here — clone the repository again, or pre-train one with `rldf pretrain`',
      );
    return models.map(({ name, bytes }) => `${name} (${byteWords(bytes)})`).join(', ');
  });
  return findings;
}

/** Where the loaded libtorch lies, as the operating system says. */
async function libtorchPath(): Promise<string | undefined> {
  const { readFileSync } = await import('node:fs');
  try {
    return /\s(\/\S*libtorch_cpu\S*)/.exec(readFileSync('/proc/self/maps', 'utf8'))?.[1];
  } catch {
    return undefined; // not Linux
  }
}
