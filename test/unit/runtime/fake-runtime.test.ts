import { describeConformance } from '../../integration/runtime/conformance/conformance-suite.ts';
import { faultContract } from '../../integration/runtime/conformance/fault-contract.ts';
import { lifeContract } from '../../integration/runtime/conformance/life-contract.ts';
import { departureContract, upkeepContract } from '../../integration/runtime/conformance/upkeep-contract.ts';
import { fakeRuntimeLab } from '../../support/fake-runtime-lab.ts';

// Isolation is the kernel's, and images are the registry's: neither is here.
describeConformance('the runtime of the tests', fakeRuntimeLab, {
  life: lifeContract,
  faults: faultContract,
  upkeep: upkeepContract,
  departure: departureContract,
});
