type Say = (text: string) => void;
/** Versions of PyTorch that the tests run with on the first of `testedNode`; the first is the one that is installed. */
export const testedTorch: readonly string[];
/** Majors of Node that the tests run with on the first of `testedTorch`. */
export const testedNode: readonly number[];
export class SetupError extends Error {}
/** @throws SetupError if this Node is too old */
export function checkNode(): void;
export function versionOf(libtorch: string): string | undefined;
/** @returns the folder of libtorch: LIBTORCH, `root`/.venv, the system's, or a fresh install into `root`/.venv */
export function findLibtorch(root: string, say: Say): string;
/** @throws SetupError where no wheel of PyTorch can be installed */
export function checkPlatform(here?: { platform: string; arch: string; glibc?: string }): void;
export function installTorch(venv: string, version: string, say: Say): string;
export function venvTorch(venv: string): string | undefined;
/** @returns the addon's file, built if it was not there */
export function buildAddon(libtorch: string, say: Say, folder?: string): Promise<string>;
