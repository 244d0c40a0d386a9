import { expect, test } from 'vitest';
import { firstNode, placeOf } from './place.js';

test('torchrun: its variables, its store, its restarts', () => {
  const env = { RANK: '3', WORLD_SIZE: '8', LOCAL_RANK: '1', MASTER_ADDR: 'node-a', MASTER_PORT: '4321' };
  const place = { rank: 3, size: 8, localRank: 1, host: 'node-a', port: 4321, serves: false, attempt: 0 };
  expect(placeOf(env)).toEqual({ ...place, launcher: 'torchrun' });
  expect(placeOf({ ...env, RANK: '0' })?.serves).toBe(true); // as under Kubernetes
  const elastic = {
    ...env,
    RANK: '0',
    TORCHELASTIC_USE_AGENT_STORE: 'True',
    TORCHELASTIC_RESTART_COUNT: '2',
  };
  expect(placeOf(elastic)).toMatchObject({ serves: false, attempt: 2 });
  expect(placeOf({ ...env, WORLD_SIZE: '1', RANK: '0' })).toBeUndefined();
});

test('Slurm: a step of srun, not the batch script that called it', () => {
  const batch = {
    SLURM_PROCID: '0',
    SLURM_NTASKS: '4',
    SLURM_JOB_NODELIST: 'gpu[07-08]',
    SLURM_JOB_ID: '41234',
  };
  expect(placeOf(batch)).toBeUndefined();
  expect(placeOf({ ...batch, SLURM_PROCID: '2', SLURM_STEP_NUM_TASKS: '4', SLURM_LOCALID: '0' })).toEqual({
    ...{ rank: 2, size: 4, localRank: 0, host: 'gpu07', port: 21234, serves: false, attempt: 0 },
    launcher: 'slurm',
  });
  expect(['a[03-05,9],b', 'n1,n2', 'rack2-[11]-ib', 'single'].map(firstNode)).toEqual([
    ...['a03', 'n1', 'rack2-11-ib', 'single'],
  ]);
});

test('MPI: on one machine without an address, on several with one', () => {
  const open = { OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '2', OMPI_COMM_WORLD_LOCAL_RANK: '1' };
  expect(placeOf({ ...open, OMPI_COMM_WORLD_LOCAL_SIZE: '2' })).toEqual({
    ...{ rank: 1, size: 2, localRank: 1, host: '127.0.0.1', port: 29500, serves: false, attempt: 0 },
    launcher: 'mpi',
  });
  expect(() => placeOf(open)).toThrow(/^MASTER_ADDR is not set — processes meet at the host of rank 0/);
  expect(placeOf({ PMI_RANK: '0', PMI_SIZE: '4', MASTER_ADDR: 'x' })).toMatchObject({ rank: 0, size: 4 });
});

test('nothing, or what contradicts itself', () => {
  expect(placeOf({})).toBeUndefined();
  const env = { WORLD_SIZE: '2', MASTER_ADDR: 'x' };
  expect(() => placeOf({ ...env, RANK: '2' })).toThrow(/^torchrun: rank 2 of 2 — ranks count from 0/);
  expect(() => placeOf({ ...env, RANK: 'first' })).toThrow(/^RANK=first: expected a whole number from 0/);
});
