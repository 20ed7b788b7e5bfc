// Made from crds/lambdafunctions.yaml by `npm run generate`; do not edit.

/** A field of a template: its default, and the fields or items in it where these have a schema. */
export interface TemplateField {
  readonly default?: unknown;
  readonly fields?: Readonly<Record<string, TemplateField>>;
  readonly items?: TemplateField;
}

export const templateFields: TemplateField = {
 "fields": {
  "image": {},
  "imagePullPolicy": {},
  "imageLookup": {},
  "imagePullSecrets": {
   "items": {
    "fields": {
     "name": {}
    }
   }
  },
  "command": {
   "items": {}
  },
  "args": {
   "items": {}
  },
  "handler": {},
  "env": {
   "items": {
    "fields": {
     "name": {},
     "value": {},
     "valueFrom": {
      "fields": {
       "secretKeyRef": {
        "fields": {
         "name": {},
         "key": {},
         "optional": {
          "default": false
         }
        }
       }
      }
     }
    }
   }
  },
  "resources": {
   "default": {},
   "fields": {
    "requests": {
     "fields": {
      "cpu": {}
     }
    },
    "limits": {
     "default": {},
     "fields": {
      "memory": {
       "default": "128Mi"
      },
      "cpu": {}
     }
    },
    "pids": {
     "default": 256
    }
   }
  },
  "ephemeralStorage": {
   "default": "64Mi"
  },
  "readOnlyRootFilesystem": {
   "default": true
  },
  "timeoutSeconds": {
   "default": 3
  },
  "runtimeInterface": {},
  "startup": {
   "fields": {
    "timeoutSeconds": {}
   }
  },
  "logging": {
   "fields": {
    "format": {
     "default": "Text"
    },
    "applicationLevel": {},
    "systemLevel": {}
   }
  },
  "port": {
   "default": 8080
  },
  "warmUp": {
   "fields": {
    "payload": {
     "default": {}
    }
   }
  },
  "desiredState": {
   "default": "Running"
  },
  "idlePolicy": {
   "fields": {
    "pauseAfterSeconds": {},
    "removeAfterSeconds": {}
   }
  },
  "wakePolicy": {
   "default": "OnInvoke"
  },
  "asyncInvoke": {
   "fields": {
    "maximumRetryAttempts": {
     "default": 2
    },
    "maximumEventAgeSeconds": {
     "default": 21600
    },
    "onSuccess": {
     "fields": {
      "functionName": {},
      "url": {}
     }
    },
    "onFailure": {
     "fields": {
      "functionName": {},
      "url": {}
     }
    }
   }
  },
  "concurrency": {
   "fields": {
    "perWorker": {},
    "reserved": {},
    "queueDepth": {
     "default": 100
    }
   }
  },
  "network": {
   "default": {},
   "fields": {
    "mode": {
     "default": "Bridge"
    },
    "egress": {}
   }
  },
  "nodeName": {},
  "nodeSelector": {},
  "tolerations": {
   "items": {
    "fields": {
     "key": {},
     "operator": {
      "default": "Equal"
     },
     "value": {},
     "effect": {},
     "tolerationSeconds": {}
    }
   }
  },
  "topologySpread": {
   "fields": {
    "topologyKey": {},
    "maxSkew": {
     "default": 1
    },
    "whenUnsatisfiable": {
     "default": "DoNotSchedule"
    }
   }
  },
  "terminationGracePeriodSeconds": {
   "default": 10
  }
 }
};
