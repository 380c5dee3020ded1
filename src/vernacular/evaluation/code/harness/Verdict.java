// Calls the tests. The token comes by standard input before anything of the candidate's is loaded, and goes out on file
// descriptor 3 after the last test.
import java.io.FileOutputStream;
import java.io.InputStream;

class Verdict {
    public static void main(String[] words) throws Exception {
        byte[] token = System.in.readNBytes(64);
        System.in.close();
        System.setIn(InputStream.nullInputStream());
        try (FileOutputStream verdict = new FileOutputStream("/proc/self/fd/3")) {
            Main.main(words);
            verdict.write(token);
        }
        Runtime.getRuntime().halt(0);
    }
}
