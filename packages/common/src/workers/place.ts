/** Who this process is among those that a launcher has started: torchrun, Slurm, MPI or ourselves. */

import { UserError } from '@rldf/torch/errors';

export interface Place {
  /** Which of the processes, from 0. */
  rank: number;
  size: number;
  /** Which of those on its machine: chooses the GPU. */
  localRank: number;
  /** Where rank 0 is to be met. */
  host: string;
  port: number;
  /** Whether rank 0 opens the store there; torchrun has opened one already. */
  serves: boolean;
  /** Restarts so far, by the launcher. */
  attempt: number;
  launcher: 'rldf' | 'torchrun' | 'slurm' | 'mpi';
}

type Environment = Readonly<Record<string, string | undefined>>;

const defaultPort = 29500;

/**
 * By the environment's variables; nothing where no launcher was at work, or it has started one process.
 * @throws UserError for variables that contradict each other
 */
export function placeOf(env: Environment = process.env): Place | undefined {
  const place = byTorchrun(env) ?? bySlurm(env) ?? byMpi(env);
  if (place === undefined || place.size === 1) return undefined;
  const { rank, size, launcher } = place;
  if (!(rank < size))
    throw new UserError(`${launcher}: rank ${rank} of ${size} — ranks count from 0. Look at its variables`);
  return place;
}

/** RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: torchrun's, those of Kubernetes' PyTorchJob, and ours. */
function byTorchrun(env: Environment): Place | undefined {
  if (env.RANK === undefined || env.WORLD_SIZE === undefined) return undefined;
  const rank = whole(env, 'RANK');
  return {
    rank,
    size: whole(env, 'WORLD_SIZE', 1),
    localRank: env.LOCAL_RANK === undefined ? rank : whole(env, 'LOCAL_RANK'),
    host: given(env, 'MASTER_ADDR', 'torchrun sets it'),
    port: portOf(env),
    serves: rank === 0 && env.TORCHELASTIC_USE_AGENT_STORE !== 'True',
    attempt: env.TORCHELASTIC_RESTART_COUNT === undefined ? 0 : whole(env, 'TORCHELASTIC_RESTART_COUNT'),
    launcher: env.RLDF_LAUNCHED === undefined ? 'torchrun' : 'rldf',
  };
}

/** srun's: a batch script itself has SLURM_PROCID too, but no step. */
function bySlurm(env: Environment): Place | undefined {
  if (env.SLURM_PROCID === undefined || env.SLURM_STEP_NUM_TASKS === undefined) return undefined;
  const rank = whole(env, 'SLURM_PROCID');
  const nodes = env.SLURM_STEP_NODELIST ?? env.SLURM_JOB_NODELIST ?? 'localhost';
  const job = env.SLURM_JOB_ID === undefined ? 0 : whole(env, 'SLURM_JOB_ID');
  return {
    rank,
    size: whole(env, 'SLURM_STEP_NUM_TASKS', 1),
    localRank: env.SLURM_LOCALID === undefined ? 0 : whole(env, 'SLURM_LOCALID'),
    host: env.MASTER_ADDR ?? firstNode(nodes),
    port: env.MASTER_PORT === undefined ? 20000 + (job % 20000) : portOf(env), // jobs of one node differ
    serves: rank === 0,
    attempt: env.SLURM_RESTART_COUNT === undefined ? 0 : whole(env, 'SLURM_RESTART_COUNT'),
    launcher: 'slurm',
  };
}

/** Open MPI's variables, and those of MPICH and Intel MPI. */
function byMpi(env: Environment): Place | undefined {
  const names = [
    [
      'OMPI_COMM_WORLD_RANK',
      'OMPI_COMM_WORLD_SIZE',
      'OMPI_COMM_WORLD_LOCAL_RANK',
      'OMPI_COMM_WORLD_LOCAL_SIZE',
    ],
    ['PMI_RANK', 'PMI_SIZE', 'MPI_LOCALRANKID', 'MPI_LOCALNRANKS'],
  ] as const;
  const known = names.find(([rank, size]) => env[rank] !== undefined && env[size] !== undefined);
  if (known === undefined) return undefined;
  const [rankName, sizeName, localName, localSize] = known;
  const rank = whole(env, rankName);
  const size = whole(env, sizeName, 1);
  const oneMachine = env[localSize] !== undefined && whole(env, localSize, 1) === size;
  return {
    rank,
    size,
    localRank: env[localName] === undefined ? 0 : whole(env, localName),
    host: oneMachine
      ? (env.MASTER_ADDR ?? '127.0.0.1')
      : given(env, 'MASTER_ADDR', 'name the host of rank 0'),
    port: portOf(env),
    serves: rank === 0,
    attempt: 0,
    launcher: 'mpi',
  };
}

/** The first host of Slurm's list: `a[03-05,9],b` -> `a03`. */
export const firstNode = (list: string): string =>
  list.replace(/^([^,[]*)\[([^\],-]+)[^\]]*\]([^,]*).*$/, '$1$2$3').split(',')[0] as string;

const portOf = (env: Environment) =>
  env.MASTER_PORT === undefined ? defaultPort : whole(env, 'MASTER_PORT', 1, 65535);

function whole(env: Environment, name: string, least = 0, most = 1e9): number {
  const value = Number(env[name]);
  if (/^\d+$/.test(env[name]?.trim() ?? '') && value >= least && value <= most) return value;
  throw new UserError(
    `${name}=${env[name]}: expected a whole number from ${least} to ${most} — it says which of the processes this is. Mend it, or unset it to run alone`,
  );
}

function given(env: Environment, name: string, fix: string): string {
  const value = env[name];
  if (value) return value;
  throw new UserError(`${name} is not set — processes meet at the host of rank 0. Set it (${fix})`);
}
