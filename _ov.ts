import { scope, ones, noGrad, setThreads } from '@rldf/torch';
const a = ones([4,4]), b = ones([4,4]);
function run(n:number){ scope(()=>{ for(let i=0;i<n;i++) a.add(b); }); }
for(let i=0;i<20;i++) run(1000);
let best=1e9; for(let r=0;r<2000;r++){ const t=process.hrtime.bigint(); run(1000); const d=Number(process.hrtime.bigint()-t)/1000; if(d<best)best=d; }
console.log('add us', (best/1000).toFixed(3));
