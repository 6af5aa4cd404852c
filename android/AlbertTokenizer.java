import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * WordPiece as tokenization.py does it, and the inputs of an exported model, for Android and any
 * Java from 8 on. MOBILE.md explains the steps; `python tokenizer_vectors.py` prints what must come
 * out.
 *
 * <pre>
 * AlbertTokenizer tokenizer = new AlbertTokenizer(context.getAssets().open("vocab.txt"), true);
 * AlbertTokenizer.Inputs inputs = tokenizer.encode("怎么开初婚未育证明", "初婚未育情况证明怎么开", 128);
 * // one row each of the model's inputs input_ids, input_mask, segment_ids
 * int[][][] rows = {{inputs.inputIds}, {inputs.inputMask}, {inputs.segmentIds}};
 * </pre>
 */
public final class AlbertTokenizer {
    /** Rows of a model's inputs, all of one length; the mask is 0 for padding. */
    public static final class Inputs {
        public final int[] inputIds;
        public final int[] inputMask;
        public final int[] segmentIds;

        private Inputs(int length) {
            inputIds = new int[length];
            inputMask = new int[length];
            segmentIds = new int[length];
        }
    }

    private static final int MOST_CHARACTERS_OF_A_WORD = 200;

    // First and last code points of the CJK ideograph blocks.
    private static final int[][] CHINESE = {
        {0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
        {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF}, {0xF900, 0xFAFF}, {0x2F800, 0x2FA1F}};

    private final Map<String, Integer> vocabulary = new HashMap<>();
    private final boolean doLowerCase;
    private final String truncate;
    private final int longestEntry;
    private final int cls;
    private final int sep;
    private final int unknown;

    /** A tokenizer that cuts off the end of a text that is too long, as most models have it. */
    public AlbertTokenizer(InputStream vocabularyFile, boolean doLowerCase) throws IOException {
        this(vocabularyFile, doLowerCase, "head");
    }

    /**
     * @param vocabularyFile vocab.txt, UTF-8, an entry a line; closed afterwards
     * @param doLowerCase do_lower_case of the model's export.json
     * @param truncate truncate of the model's export.json: what is kept of a text that is too long,
     *     "head", "tail" or "head_tail" (a quarter from its start, the rest from its end)
     */
    public AlbertTokenizer(InputStream vocabularyFile, boolean doLowerCase, String truncate)
            throws IOException {
        if (!Arrays.asList("head", "tail", "head_tail").contains(truncate)) {
            throw new IllegalArgumentException("truncate: " + truncate);
        }
        this.doLowerCase = doLowerCase;
        this.truncate = truncate;
        // readLine knows no line ends but \n and \r: one entry of the Chinese vocabulary is U+2028.
        int longest = 0;
        try (BufferedReader reader = new BufferedReader(
                new InputStreamReader(vocabularyFile, StandardCharsets.UTF_8))) {
            int id = 0;
            for (String line = reader.readLine(); line != null; line = reader.readLine()) {
                String entry = stripBlanks(line);
                vocabulary.put(entry, id++);
                longest = Math.max(longest, entry.codePointCount(0, entry.length()));
            }
        }
        longestEntry = longest;
        cls = vocabulary.get("[CLS]");
        sep = vocabulary.get("[SEP]");
        unknown = vocabulary.get("[UNK]");
    }

    /** Inputs of a text alone, as long as it needs. */
    public Inputs encode(String text, int maxLength) {
        return encode(text, null, maxLength, 0);
    }

    /** Inputs of a pair of texts, as long as they need. */
    public Inputs encode(String first, String second, int maxLength) {
        return encode(first, second, maxLength, 0);
    }

    /**
     * Inputs of a text, or of a pair.
     *
     * @param second null for a text alone
     * @param maxLength most tokens; of a pair, the longer one is cut first
     * @param paddedLength length for a model of fixed length; 0: as long as the text needs
     */
    public Inputs encode(String first, String second, int maxLength, int paddedLength) {
        List<Integer> a = ids(first);
        List<Integer> b = second == null ? new ArrayList<Integer>() : ids(second);
        int room = maxLength - (second == null ? 2 : 3);
        int keptOfA = a.size();
        int keptOfB = b.size();
        while (keptOfA + keptOfB > room) {
            if (keptOfA > keptOfB) {
                keptOfA--;
            } else {
                keptOfB--;
            }
        }
        List<Integer> all = new ArrayList<>();
        all.add(cls);
        all.addAll(kept(a, keptOfA));
        all.add(sep);
        int firstOfB = all.size();
        if (second != null) {
            all.addAll(kept(b, keptOfB));
            all.add(sep);
        }
        Inputs inputs = new Inputs(Math.max(paddedLength, all.size()));
        for (int i = 0; i < all.size(); i++) {
            inputs.inputIds[i] = all.get(i);
            inputs.inputMask[i] = 1;
            inputs.segmentIds[i] = i < firstOfB ? 0 : 1;
        }
        return inputs;
    }

    private List<Integer> kept(List<Integer> ids, int length) {
        if (ids.size() <= length) {
            return ids;
        }
        int head = length;
        if (truncate.equals("tail")) {
            head = 0;
        } else if (truncate.equals("head_tail")) {
            head = (length + 3) / 4;
        }
        List<Integer> kept = new ArrayList<>(ids.subList(0, head));
        kept.addAll(ids.subList(ids.size() - (length - head), ids.size()));
        return kept;
    }

    /** Ids of a text's tokens, without [CLS] and [SEP]. */
    public List<Integer> ids(String text) {
        List<Integer> ids = new ArrayList<>();
        for (String word : words(text)) {
            addPieces(word, ids);
        }
        return ids;
    }

    /** Steps 1 to 5: words, punctuation and Chinese characters, one after the other. */
    private List<String> words(String text) {
        StringBuilder clean = new StringBuilder();
        for (int i = 0; i < text.length(); ) {
            int c = text.codePointAt(i);
            i += Character.charCount(c);
            int type = Character.getType(c);
            if (c == '\t' || c == '\n' || c == '\r') {
                clean.append(' ');
            } else if (c == 0xFFFD || type == Character.CONTROL || type == Character.FORMAT) {
                continue;
            } else if (isChinese(c)) {
                clean.append(' ').appendCodePoint(c).append(' ');
            } else {
                clean.appendCodePoint(c);
            }
        }
        String normal = clean.toString();
        if (doLowerCase) {
            normal = Normalizer.normalize(
                    withLowerSigmas(normal).toLowerCase(Locale.ROOT), Normalizer.Form.NFD);
        }
        List<String> words = new ArrayList<>();
        StringBuilder word = new StringBuilder();
        for (int i = 0; i < normal.length(); ) {
            int c = normal.codePointAt(i);
            i += Character.charCount(c);
            if (doLowerCase && Character.getType(c) == Character.NON_SPACING_MARK) {
                continue;
            }
            if (isWhiteSpace(c) || isPunctuation(c)) {
                if (word.length() > 0) {
                    words.add(word.toString());
                    word.setLength(0);
                }
                if (!isWhiteSpace(c)) {
                    words.add(new String(Character.toChars(c)));
                }
            } else {
                word.appendCodePoint(c);
            }
        }
        if (word.length() > 0) {
            words.add(word.toString());
        }
        return words;
    }

    /** Step 6: the longest vocabulary entries from left to right, or [UNK]. */
    private void addPieces(String word, List<Integer> ids) {
        int[] characters = word.codePoints().toArray();
        List<Integer> pieces = new ArrayList<>();
        int start = 0;
        while (start < characters.length && characters.length <= MOST_CHARACTERS_OF_A_WORD) {
            Integer id = null;
            int end = Math.min(characters.length, start + longestEntry);
            for (; end > start; end--) {
                String piece = new String(characters, start, end - start);
                id = vocabulary.get(start == 0 ? piece : "##" + piece);
                if (id != null) {
                    break;
                }
            }
            if (id == null) {
                break;
            }
            pieces.add(id);
            start = end;
        }
        if (start < characters.length) {
            ids.add(unknown);
        } else {
            ids.addAll(pieces);
        }
    }

    /** Java and Python differ in where a capital sigma ends a word; this is Unicode's rule. */
    private static String withLowerSigmas(String text) {
        if (text.indexOf('\u03A3') < 0) {
            return text;
        }
        int[] characters = text.codePoints().toArray();
        StringBuilder result = new StringBuilder();
        for (int i = 0; i < characters.length; i++) {
            if (characters[i] != 0x03A3) {
                result.appendCodePoint(characters[i]);
                continue;
            }
            boolean isLast = isCasedFrom(characters, i, -1) && !isCasedFrom(characters, i, 1);
            result.append(isLast ? '\u03C2' : '\u03C3');
        }
        return result.toString();
    }

    /** Whether the next character that counts, in a direction, has a case. */
    private static boolean isCasedFrom(int[] characters, int place, int step) {
        int i = place + step;
        while (i >= 0 && i < characters.length && isCaseIgnorable(characters[i])) {
            i += step;
        }
        if (i < 0 || i >= characters.length) {
            return false;
        }
        return Character.isLowerCase(characters[i]) || Character.isUpperCase(characters[i])
                || Character.isTitleCase(characters[i]);
    }

    private static boolean isCaseIgnorable(int c) {
        switch (Character.getType(c)) {
            case Character.NON_SPACING_MARK:
            case Character.ENCLOSING_MARK:
            case Character.FORMAT:
            case Character.MODIFIER_LETTER:
            case Character.MODIFIER_SYMBOL:
                return true;
            default:
                return "'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07"
                        .indexOf(c) >= 0 || c == 0xFF0E || c == 0xFF1A;
        }
    }

    private static boolean isChinese(int c) {
        for (int[] block : CHINESE) {
            if (block[0] <= c && c <= block[1]) {
                return true;
            }
        }
        return false;
    }

    private static boolean isPunctuation(int c) {
        if (c < 128) { // every ASCII symbol counts, such as $ and ^
            return c > ' ' && c < 127 && !Character.isLetterOrDigit(c);
        }
        switch (Character.getType(c)) {
            case Character.CONNECTOR_PUNCTUATION:
            case Character.DASH_PUNCTUATION:
            case Character.START_PUNCTUATION:
            case Character.END_PUNCTUATION:
            case Character.INITIAL_QUOTE_PUNCTUATION:
            case Character.FINAL_QUOTE_PUNCTUATION:
            case Character.OTHER_PUNCTUATION:
                return true;
            default:
                return false;
        }
    }

    private static boolean isWhiteSpace(int c) {
        return Character.isSpaceChar(c) || c == '\t' || c == '\n' || c == '\r';
    }

    private static String stripBlanks(String line) {
        int start = 0;
        int end = line.length();
        while (start < end && (line.charAt(start) == ' ' || line.charAt(start) == '\t')) {
            start++;
        }
        while (end > start && (line.charAt(end - 1) == ' ' || line.charAt(end - 1) == '\t')) {
            end--;
        }
        return line.substring(start, end);
    }

    /** Prints the ids and segments of texts: java AlbertTokenizer vocab.txt 32 &lt; texts.tsv */
    public static void main(String[] arguments) throws IOException {
        List<String> others = Arrays.asList(arguments).subList(2, arguments.length);
        AlbertTokenizer tokenizer = new AlbertTokenizer(
                new java.io.FileInputStream(arguments[0]), !others.contains("cased"),
                others.contains("tail") ? "tail"
                        : others.contains("head_tail") ? "head_tail" : "head");
        int maxLength = Integer.parseInt(arguments[1]);
        java.io.ByteArrayOutputStream whole = new java.io.ByteArrayOutputStream();
        byte[] block = new byte[1 << 16];
        for (int read = System.in.read(block); read > 0; read = System.in.read(block)) {
            whole.write(block, 0, read);
        }
        // Lines end in \n alone, and a text may hold any other character but a tab.
        String text = new String(whole.toByteArray(), StandardCharsets.UTF_8);
        String[] lines = text.split("\n", -1); // behind the last line end there is no line
        for (int i = 0; i < lines.length - 1; i++) {
            String[] pair = lines[i].split("\t", -1);
            Inputs inputs = tokenizer.encode(pair[0], pair.length > 1 ? pair[1] : null, maxLength);
            System.out.println(Arrays.toString(inputs.inputIds) + " "
                    + Arrays.toString(inputs.segmentIds));
        }
    }
}
