import { repositoryRoot } from '../../local/common/repository.ts';
import type { ImageRunConfig } from '../../local/image/image-layout.ts';
import {
  accountsLayer,
  debianLayer,
  emulatorLayer,
  filesLayer,
  functionFile,
  type PlacedFile,
} from './builders/files.ts';
import { goFunctionLayer } from './builders/go.ts';
import { javaFunctionLayer, javaLayer } from './builders/java.ts';
import { nodeClientLayer, nodeLayer } from './builders/node.ts';
import { pythonClientLayer, pythonLayer } from './builders/python.ts';
import { rustFunctionLayer, webAdapterLayer } from './builders/rust.ts';
import type { LayerRecipe } from './layer.ts';

/** The event of the functions: seconds until they answer. */
export interface FunctionEvent {
  readonly sleep?: number;
}

/** How often a function was called: in its process, and in the files of its container. */
export interface FunctionAnswer {
  readonly calls: number;
  readonly kept: number;
}

/** An image as people have them. Its function counts its calls. */
export interface Shape {
  readonly name: string;
  readonly special: string;
  readonly layers: readonly LayerRecipe[];
  readonly run: ImageRunConfig;
  /** Another processor than this machine's: the image is refused. */
  readonly architecture?: string;
  readonly readOnlyRoot?: boolean;
  /** Whether `npm test` calls the image as well. */
  readonly tested?: boolean;
  /** How the function is asked and answers, where that is not in JSON alone. */
  readonly words?: ShapeWords;
}

export interface ShapeWords {
  readonly event: (event: FunctionEvent) => unknown;
  readonly answer: (payload: unknown) => FunctionAnswer;
}

const path = 'PATH=/usr/local/bin:/usr/bin:/bin';
const noNames: readonly string[] = [];
const task = (name: string, to: string): PlacedFile => ({ from: functionFile(...name.split('/')), to });
const program = (name: string, to: string): PlacedFile => ({ ...task(name, to), mode: 0o755 });

const shellLayer = debianLayer('shell', ['dash']);
const bashLayer = debianLayer('bash', ['bash']);
const glibcLayer = debianLayer('glibc', ['libc6', 'libgcc-s1']);
const pythonTask = filesLayer('python-function', [task('python/app.py', 'var/task/app.py')]);
const pythonClient4 = pythonClientLayer('4.2.2', 'var/task');

/** Python as AWS's documentation has it for images without an AWS base, with the client beside the function. */
function pythonShape(client: LayerRecipe, run: Partial<ImageRunConfig> = {}): Pick<Shape, 'layers' | 'run'> {
  return {
    layers: [pythonLayer, accountsLayer, client, pythonTask],
    run: {
      Entrypoint: ['/usr/local/bin/python', '-m', 'awslambdaric'],
      Cmd: ['app.handler'],
      Env: [path, 'LANG=C.UTF-8'],
      WorkingDir: '/var/task',
      ...run,
    },
  };
}

const baseEnv = [path, 'LANG=en_US.UTF-8', 'TZ=:/etc/localtime', 'LAMBDA_TASK_ROOT=/var/task'];
const baseEntrypoint = filesLayer('base-entrypoint', [
  {
    from: `${repositoryRoot()}/examples/aws-base-shape/lambda-entrypoint.sh`,
    to: 'lambda-entrypoint.sh',
    mode: 0o755,
  },
]);

/** An image on an AWS base image, whose entrypoint starts the emulator unless a Runtime API is there. */
function baseShape(handler: string, env: readonly string[] = noNames): ImageRunConfig {
  return {
    Entrypoint: ['/lambda-entrypoint.sh'],
    Cmd: [handler],
    Env: [...baseEnv, 'LAMBDA_RUNTIME_DIR=/var/runtime', ...env],
    WorkingDir: '/var/task',
  };
}

const pythonBase = [
  pythonLayer,
  shellLayer,
  accountsLayer,
  pythonClientLayer('4.2.2', 'var/runtime'),
  filesLayer('python-bootstrap', [
    program('base/bootstrap-python', 'var/runtime/bootstrap'),
    task('base/bootstrap.py', 'var/runtime/bootstrap.py'),
  ]),
  baseEntrypoint,
  pythonTask,
];

/** Events of API Gateway (HTTP API, format 2.0), as a web adapter takes them. */
const webWords: ShapeWords = {
  event: (event) => ({
    version: '2.0',
    routeKey: '$default',
    rawPath: '/',
    rawQueryString: '',
    headers: { 'content-type': 'application/json', host: 'function.example' },
    requestContext: {
      accountId: '123456789012',
      apiId: 'api',
      domainName: 'function.example',
      domainPrefix: 'function',
      http: { method: 'POST', path: '/', protocol: 'HTTP/1.1', sourceIp: '192.0.2.1', userAgent: 'test' },
      requestId: 'id',
      routeKey: '$default',
      stage: '$default',
      time: '28/Nov/2026:00:00:00 +0000',
      timeEpoch: 1_795_824_000_000,
    },
    body: JSON.stringify(event),
    isBase64Encoded: false,
  }),
  answer: (payload) => JSON.parse((payload as { readonly body: string }).body) as FunctionAnswer,
};

export const shapes: readonly Shape[] = [
  { name: 'python-2', special: 'awslambdaric 2.0.8', ...pythonShape(pythonClientLayer('2.0.8', 'var/task')) },
  {
    name: 'python-3',
    special: 'awslambdaric 3.1.1',
    tested: true,
    ...pythonShape(pythonClientLayer('3.1.1', 'var/task')),
  },
  { name: 'python-4', special: 'awslambdaric 4.2.2', tested: true, ...pythonShape(pythonClient4) },
  {
    name: 'node',
    special: 'aws-lambda-ric by npx, as AWS documents',
    tested: true,
    layers: [
      nodeLayer,
      debianLayer('coreutils', ['dash', 'coreutils']),
      accountsLayer,
      nodeClientLayer,
      filesLayer('node-function', [task('node/index.mjs', 'function/index.mjs')]),
    ],
    run: {
      Entrypoint: ['/usr/local/bin/npx', 'aws-lambda-ric'],
      Cmd: ['index.handler'],
      Env: [path, 'LAMBDA_TASK_ROOT=/function'],
      WorkingDir: '/function',
    },
  },
  {
    name: 'go',
    special: 'aws-lambda-go, entrypoint relative to the working directory',
    tested: true,
    layers: [glibcLayer, accountsLayer, goFunctionLayer('static', 'function/main')],
    run: { Entrypoint: ['./main'], Env: [path], WorkingDir: '/function' },
  },
  {
    name: 'go-provided',
    special: 'aws-lambda-go as /var/runtime/bootstrap of the base `provided`',
    tested: true,
    layers: [
      shellLayer,
      accountsLayer,
      baseEntrypoint,
      emulatorLayer,
      goFunctionLayer('static', 'var/runtime/bootstrap'),
    ],
    run: baseShape('handler'),
  },
  {
    name: 'rust',
    special: 'lambda_runtime of crates.io',
    layers: [glibcLayer, accountsLayer, rustFunctionLayer('usr/local/bin/function')],
    run: { Entrypoint: ['/usr/local/bin/function'], Env: [path], WorkingDir: '/' },
  },
  {
    name: 'java',
    special: 'the client of AWS for Java, its part in C++ unpacked into /tmp',
    layers: [javaLayer, accountsLayer, javaFunctionLayer],
    run: {
      Entrypoint: ['/opt/java/bin/java', '-cp', './*', 'com.amazonaws.services.lambda.runtime.api.client.AWSLambda'],
      Cmd: ['images.Function::handleRequest'],
      Env: [path],
      WorkingDir: '/function',
    },
  },
  {
    name: 'bash',
    special: "the loop with curl of AWS's tutorial on the base `provided`",
    tested: true,
    layers: [
      debianLayer('bash-curl', ['bash', 'dash', 'curl', 'coreutils', 'grep']),
      accountsLayer,
      baseEntrypoint,
      emulatorLayer,
      filesLayer('shell-function', [
        program('shell/bootstrap', 'var/runtime/bootstrap'),
        task('shell/function.sh', 'var/task/function.sh'),
      ]),
    ],
    run: baseShape('function.handler'),
  },
  {
    name: 'aws-base',
    special: 'the shape of the AWS base for Python, with the emulator',
    layers: [...pythonBase, emulatorLayer],
    run: baseShape('app.handler'),
  },
  {
    name: 'aws-base-bare',
    special: 'the shape of the AWS base for Node.js, without the emulator',
    tested: true,
    layers: [
      nodeLayer,
      shellLayer,
      accountsLayer,
      nodeClientLayer,
      filesLayer('node-bootstrap', [
        program('base/bootstrap-node', 'var/runtime/bootstrap'),
        { to: 'var/runtime/node_modules', link: '/function/node_modules' },
      ]),
      baseEntrypoint,
      filesLayer('node-task', [task('node/index.mjs', 'var/task/index.mjs')]),
    ],
    run: baseShape('index.handler'),
  },
  {
    name: 'entry-script',
    special: "the entry script of AWS's documentation, which chooses the emulator",
    ...pythonShape(pythonClient4, { Entrypoint: ['/entry_script.sh'] }),
    layers: [
      ...pythonShape(pythonClient4).layers,
      shellLayer,
      emulatorLayer,
      filesLayer('entry-script', [program('base/entry_script.sh', 'entry_script.sh')]),
    ],
  },
  {
    name: 'exec-wrapper',
    special: "the wrapper script of AWS's documentation by AWS_LAMBDA_EXEC_WRAPPER",
    layers: [
      ...pythonBase,
      bashLayer,
      filesLayer('exec-wrapper', [program('base/importtime_wrapper', 'opt/importtime_wrapper')]),
    ],
    run: baseShape('app.handler', ['AWS_LAMBDA_EXEC_WRAPPER=/opt/importtime_wrapper']),
  },
  {
    name: 'emulator-in-front',
    special: 'the command begins with aws-lambda-rie',
    tested: true,
    ...pythonShape(pythonClient4, {
      Entrypoint: ['/usr/local/bin/aws-lambda-rie', '/usr/local/bin/python', '-m', 'awslambdaric'],
    }),
    layers: [...pythonShape(pythonClient4).layers, emulatorLayer],
  },
  {
    name: 'distroless',
    special: 'one static program: no shell, no /etc/passwd, a user by number',
    tested: true,
    layers: [goFunctionLayer('static', 'main')],
    run: { Entrypoint: ['/main'], Env: noNames, WorkingDir: '/', User: '65532:65532' },
  },
  {
    name: 'non-root',
    special: 'a user by name',
    tested: true,
    ...pythonShape(pythonClient4, { User: 'app' }),
  },
  {
    name: 'read-only-root',
    special: 'a root that is read-only, and a user by name',
    readOnlyRoot: true,
    ...pythonShape(pythonClient4, { User: 'app' }),
  },
  {
    name: 'web-adapter',
    special: "AWS's Lambda Web Adapter in /opt/extensions before an ordinary HTTP server",
    layers: [
      pythonLayer,
      accountsLayer,
      webAdapterLayer,
      filesLayer('web-function', [
        task('web/server.py', 'var/task/server.py'),
        task('python/app.py', 'var/task/app.py'),
      ]),
    ],
    run: {
      Entrypoint: ['/usr/local/bin/python'],
      Cmd: ['server.py'],
      Env: [path, 'AWS_LWA_PORT=8080'],
      WorkingDir: '/var/task',
    },
    words: webWords,
  },
  {
    name: 'musl',
    special: 'musl and busybox as in Alpine, a command by the shell',
    layers: [
      debianLayer('musl', ['musl', 'busybox-static']),
      filesLayer('busybox', [{ to: 'usr/bin/sh', link: 'busybox' }]),
      accountsLayer,
      goFunctionLayer('musl', 'function/main'),
    ],
    run: { Entrypoint: ['/bin/sh', '-c', 'exec ./main'], Env: [path], WorkingDir: '/function' },
  },
  {
    name: 'arm64',
    special: 'another processor',
    architecture: 'arm64',
    tested: true,
    layers: [goFunctionLayer('arm64', 'main')],
    run: { Entrypoint: ['/main'], Env: noNames, WorkingDir: '/' },
  },
];
