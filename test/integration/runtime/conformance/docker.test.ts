import { describeConformance } from './conformance-suite.ts';
import { faultContract } from './fault-contract.ts';
import { imageContract } from './image-contract.ts';
import { isolationContract } from './isolation-contract.ts';
import { lambdaContract } from './lambda-contract.ts';
import { lifeContract } from './life-contract.ts';
import { dockerLab } from './runtime-lab.ts';
import { departureContract, upkeepContract } from './upkeep-contract.ts';

describeConformance('the runtime on Docker', dockerLab, {
  life: lifeContract,
  faults: faultContract,
  images: imageContract,
  isolation: isolationContract,
  upkeep: upkeepContract,
  lambda: lambdaContract,
  departure: departureContract,
});
