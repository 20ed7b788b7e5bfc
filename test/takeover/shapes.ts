import { join } from 'node:path';
import { accountsLayer, debianLayer, filesLayer } from '../images/builders/files.ts';
import { goFunctionLayer } from '../images/builders/go.ts';
import { nodeClientLayer, nodeLayer } from '../images/builders/node.ts';
import { pythonClientLayer, pythonLayer } from '../images/builders/python.ts';
import type { Shape } from '../images/shapes.ts';

/** A worker's image, and how its function answers. */
export interface TakeoverShape {
  readonly shape: Shape;
  /** `Asked`: where the event has parts. `Always`: each answer is the text of the event's parts. */
  readonly streams: 'Never' | 'Asked' | 'Always';
}

const file = (name: string): string => join(import.meta.dirname, 'functions', name);
const path = 'PATH=/usr/local/bin:/usr/bin:/bin';

function nodeShape(name: string, handler: string): Shape {
  return {
    name,
    special: 'aws-lambda-ric',
    layers: [
      nodeLayer,
      debianLayer('coreutils', ['dash', 'coreutils']),
      accountsLayer,
      nodeClientLayer,
      filesLayer('takeover-node', [{ from: file('index.mjs'), to: 'function/index.mjs' }]),
    ],
    run: {
      Entrypoint: ['/function/node_modules/.bin/aws-lambda-ric'],
      Cmd: [handler],
      Env: [path, 'LAMBDA_TASK_ROOT=/function'],
      WorkingDir: '/function',
    },
  };
}

/** One for each language and way to answer. */
export const takeoverShapes: readonly TakeoverShape[] = [
  {
    streams: 'Never',
    shape: {
      name: 'takeover-python',
      special: 'awslambdaric',
      layers: [
        pythonLayer,
        accountsLayer,
        pythonClientLayer('4.2.2', 'var/task'),
        filesLayer('takeover-python', [{ from: file('app.py'), to: 'var/task/app.py' }]),
      ],
      run: {
        Entrypoint: ['/usr/local/bin/python', '-m', 'awslambdaric'],
        Cmd: ['app.handler'],
        Env: [path, 'LANG=C.UTF-8'],
        WorkingDir: '/var/task',
      },
    },
  },
  { streams: 'Never', shape: nodeShape('takeover-node', 'index.handler') },
  { streams: 'Always', shape: nodeShape('takeover-node-stream', 'index.streaming') },
  {
    streams: 'Never',
    shape: {
      name: 'takeover-go',
      special: 'aws-lambda-go',
      layers: [accountsLayer, goFunctionLayer('static', 'function/main', file('main.go'))],
      run: { Entrypoint: ['./main'], Env: [path], WorkingDir: '/function' },
    },
  },
  {
    streams: 'Asked',
    shape: {
      name: 'takeover-bash',
      special: 'curl',
      layers: [
        debianLayer('bash-curl', ['bash', 'dash', 'curl', 'coreutils', 'grep']),
        accountsLayer,
        filesLayer('takeover-bash', [{ from: file('bootstrap'), to: 'function/bootstrap', mode: 0o755 }]),
      ],
      run: { Entrypoint: ['/function/bootstrap'], Env: [path], WorkingDir: '/function' },
    },
  },
];
