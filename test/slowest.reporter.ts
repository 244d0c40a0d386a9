import { relative } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';

const COUNT = 10;
const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`.padStart(8);

/** Names the ten slowest files and tests at the end: the suite has a limit of four minutes on two cores. */
export default class SlowestReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    if (modules.length < COUNT) return; // somebody looks at a few files
    const files = modules.map((module) => {
      const { collectDuration, setupDuration, prepareDuration, duration } = module.diagnostic();
      const loading = collectDuration + setupDuration + prepareDuration;
      return { name: relative(process.cwd(), module.moduleId), loading, all: loading + duration };
    });
    const tests = modules.flatMap((module) =>
      [...module.children.allTests()].map((test) => ({
        name: `${relative(process.cwd(), module.moduleId)} > ${test.fullName}`,
        all: test.diagnostic()?.duration ?? 0,
      })),
    );
    const slowest = <Row extends { all: number }>(rows: Row[]) =>
      rows.sort((a, b) => b.all - a.all).slice(0, COUNT);
    const lines = [
      ' Slowest files, loading included',
      ...slowest(files).map(
        ({ name, loading, all }) => `${seconds(all)}  ${name} (loading ${seconds(loading).trim()})`,
      ),
      ' Slowest tests',
      ...slowest(tests).map(({ name, all }) => `${seconds(all)}  ${name}`),
    ];
    console.log(`\n${lines.join('\n')}\n`);
  }
}
