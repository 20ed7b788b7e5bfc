/**
 * The words of the simple commands in a line of shell, as far as documentation needs it: quotes, comments, pipes, lists
 * and redirections. Nothing is expanded.
 */
export function simpleCommands(line: string): readonly (readonly string[])[] {
  const commands: string[][] = [[]];
  for (const token of tokensOf(line)) {
    if (token.kind === 'separator') {
      commands.push([]);
    } else {
      commands.at(-1)?.push(token.text);
    }
  }
  return commands.map(withoutRedirections).filter((words) => words.length > 0);
}

type Token = { readonly kind: 'separator' } | { readonly kind: 'word'; readonly text: string };

function tokensOf(line: string): readonly Token[] {
  const tokens: Token[] = [];
  let word: string | undefined;
  const end = (): void => {
    if (word !== undefined) {
      tokens.push({ kind: 'word', text: word });
    }
    word = undefined;
  };
  for (let at = 0; at < line.length; at += 1) {
    const sign = line.charAt(at);
    if (sign === "'" || sign === '"') {
      const close = line.indexOf(sign, at + 1);
      const until = close < 0 ? line.length : close;
      word = `${word ?? ''}${line.slice(at + 1, until)}`;
      at = until;
    } else if (sign === '\\') {
      word = `${word ?? ''}${line.charAt(at + 1)}`;
      at += 1;
    } else if (sign === '#' && word === undefined) {
      break;
    } else if (sign === '$' && line.charAt(at + 1) === '(') {
      // The words inside are read as a command of its own.
      end();
      tokens.push({ kind: 'separator' });
      at += 1;
    } else if (/[|;&()]/.test(sign) && !(sign === '&' && />$/.test(word ?? ''))) {
      end();
      tokens.push({ kind: 'separator' });
    } else if (/\s/.test(sign)) {
      end();
    } else {
      word = `${word ?? ''}${sign}`;
    }
  }
  end();
  return tokens;
}

/** Without redirections and without assignments in front. */
function withoutRedirections(words: readonly string[]): readonly string[] {
  const kept: string[] = [];
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? '';
    if (/^\d*(>>?|<)(&\d)?$/.test(word)) {
      at += /&\d$/.test(word) ? 0 : 1;
    } else if (!/^\d*(>|<(?!.*>))/.test(word) && !(kept.length === 0 && /^\w+=/.test(word))) {
      kept.push(word);
    }
  }
  return kept;
}
