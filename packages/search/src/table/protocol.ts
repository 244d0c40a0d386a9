/** The protocol of a table of searches: worlds, inputs, agents, seeds and statistic, fixed before the first test picture. */

import { checkProtocol, type ProtocolFile } from '@rldf/common/base/protocol-file';
import { z } from 'zod';
import { agentNames, initialQs } from '../agents/follow.js';
import { exploration, stepSize } from '../agents/schedules.js';
import { tableKinds, tabularAgents } from '../agents/tabular.js';
import { axisOrders } from '../world/locality.js';
import { rewardNames } from '../world/rewards.js';

const schedule = (read: (text: string) => unknown) =>
  z.string().refine(
    (text) => {
      try {
        read(text);
        return true;
      } catch {
        return false;
      }
    },
    { message: 'no schedule, such as "0.1"' },
  );
const epsilon = schedule(exploration);
const seed = z.int().min(0);

const settingSchema = z.strictObject({
  table: z.enum(tableKinds),
  initialQ: z.enum(initialQs),
  alpha: schedule(stepSize),
  gamma: z.number().min(0).lt(1),
});
export type Setting = z.output<typeof settingSchema>;

export const searchProtocolSchema = z.strictObject({
  version: z.literal(1),
  kind: z.literal('search'),
  question: z.string().min(1).describe('The question that the table answers.'),
  paper: z.string().min(1).describe('What the paper reports, with its source.'),
  pictures: z
    .strictObject({
      model: z.string().min(1),
      steps: z.int().min(1),
      guidanceScale: z.number(),
      seeds: z.array(seed).min(1),
    })
    .describe('How the states are sampled. Each seed gives another image of every state.'),
  worlds: z
    .record(z.string(), z.string().min(1))
    .describe('Grammars by name. The largest one comes last and contains the others.'),
  order: z.enum(axisOrders),
  windows: z
    .record(z.string(), z.string())
    .describe('For each axis, the first value of the largest world’s window.'),
  inputs: z.strictObject({ art: z.string(), seed, scenes: z.array(z.string().min(1)).min(1) }),
  agents: z.array(z.enum(tabularAgents)).min(1),
  rewards: z.array(z.enum(rewardNames)).min(1),
  epsilons: z.array(epsilon).min(1),
  agentSeeds: z.array(seed).min(1),
  settings: z.record(z.string(), settingSchema),
  primary: z.strictObject({ setting: z.string(), reward: z.enum(rewardNames), epsilon }),
  remedies: z.record(z.string(), settingSchema).default({}),
  beside: z.array(z.enum(agentNames)).default([]),
  claims: z.strictObject({
    epsilons: z.array(epsilon),
    dynamicSeeds: z.boolean(),
    randomStarts: z.boolean(),
  }),
  statistic: z.string().min(1),
  tuning: z.string().min(1).describe('What was tried before, and on what.'),
});

export type SearchProtocol = z.output<typeof searchProtocolSchema> &
  Pick<ProtocolFile, 'table' | 'file' | 'hash'> & {
    /** Folder of the shipped grammars, for worlds whose grammar does not lie beside the protocol. */
    grammars: string;
  };

/** @throws UserError with every mistake in the file */
export function searchProtocol(read: ProtocolFile, grammars: string): SearchProtocol {
  const { table, file, hash } = read;
  return { ...checkProtocol(searchProtocolSchema, read), table, file, hash, grammars };
}
