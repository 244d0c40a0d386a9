// Prints names and shapes of a U-Net, from its config on standard input; run with RLDF_TORCH=shapes it holds no numbers.
import { Parameters } from '@rldf/torch';
import { UNet2DConditionModel } from './unet.js';

let text = '';
for await (const chunk of process.stdin) text += chunk;
const parameters = Parameters.random(0);
new UNet2DConditionModel(JSON.parse(text), parameters.at());
const rows = [...parameters.entries].map(([name, { shape }]) => [name, shape]);
process.stdout.write(JSON.stringify(rows));
